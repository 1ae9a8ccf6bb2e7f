"""The context of a running stage, `ctx`: earlier results, cancellation, log messages and progress."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NoReturn

from django.utils import timezone

from orchestration import services
from orchestration.limits import engine_limits
from orchestration.sdk.given_answers import Answers
from orchestration.sdk.results import Results
from orchestration.sdk.steps import DatabaseSteps, StageSteps, StepRefused
from orchestration.sdk.stream import OpenedStreams, Stream, StreamSink
from orchestration.sdk.waiting_stage import WaitingStage
from orchestration.secret_mask import masked, masked_json
from orchestration.stream_keys import StreamContentType
from orchestration.text import storable, text_of, truncate

logger = logging.getLogger(__name__)


class Cancelled(Exception):
    """Raised by `ctx.raise_if_cancelled()` in a stage whose run has ended."""


class HandOver(Exception):
    """Raised by `ctx.hand_over()`: the attempt ends here, and another worker continues.

    Raised while the worker does not stop, it is an ordinary failure.
    """


class Context(WaitingStage):
    """One attempt of one stage.

    Args:
        cancelled: Returns whether the attempt is cancelled.
        stopping: Returns whether the worker stops or drains.
        engine_connections: A block in which the database connections are the engine's, not those of the stage.
        stream_sink: What sends the streams of the stage; None if nothing does.
        known_streams: The names of the streams that earlier attempts have opened.

    Attributes:
        workflow_id: The id of the run.
        stage_name: The name of the stage.
        stage_id: The primary key of the stage.
        attempt: 1 for the first. Lost attempts and retries count too.
        results: The outputs of the stages that completed before, by name.
        answers: Who has answered what, by the name of the stage that waited.
        track_process_group: For adapters that start processes. Records the id of a process group, which is killed if
            the worker process dies; 0 clears the record.
    """

    def __init__(
        self,
        *,
        workflow_id: str,
        stage_name: str,
        stage_id: int,
        attempt: int,
        cancelled: Callable[[], bool],
        stopping: Callable[[], bool] = lambda: False,
        track_process_group: Callable[[int], None] = lambda pid: None,
        engine_connections: Callable[[], AbstractContextManager[None]] = nullcontext,
        stream_sink: StreamSink | None = None,
        known_streams: Collection[str] = (),
    ) -> None:
        self.workflow_id = workflow_id
        self.stage_name = stage_name
        self.stage_id = stage_id
        self.attempt = attempt
        self.track_process_group = track_process_group
        super().__init__(f"{workflow_id}/{stage_name}", engine_connections)
        self.results = Results(workflow_id, self._query)
        self.answers = Answers(workflow_id, self._query)
        self._cancelled = cancelled
        self._stopping = stopping
        self._streams = OpenedStreams(stream_sink, known_streams)
        self._message_count = 0
        self._progress_sent_at = 0.0
        self._pending_progress: tuple[float, str] | None = None
        store = DatabaseSteps(stage_id, attempt, query=self._query, report=self._report, executor=self._executor)
        self._steps = StageSteps(store)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this the context that `current_context` returns, in all threads, while the stage runs."""
        global _current
        previous, _current = _current, self
        try:
            yield
        finally:
            _current = previous

    @property
    def idempotency_key(self) -> str:
        """A key that is unique to this stage of this run, and the same for all of its attempts.

        A stage may run more than once: pass this key to every operation that must happen once.
        """
        return f"{self.workflow_id}/{self.stage_name}"

    def cancelled(self) -> bool:
        """Return whether the attempt is cancelled; if so, its process is killed soon. Reads only shared memory."""
        return self._cancelled()

    def raise_if_cancelled(self) -> None:
        """Stop here if the attempt is cancelled.

        Raises:
            Cancelled: if the run has ended.
        """
        if self.cancelled():
            raise Cancelled

    def stopping(self) -> bool:
        """Return whether the worker stops: a long stage can then save its state and hand over. Reads shared memory.

        A worker that shuts down kills the stage after `MAHAVISHNU_SHUTDOWN_GRACE_SECONDS`; one that drains waits.
        """
        return self._stopping()

    def hand_over(self) -> NoReturn:
        """End this attempt here, because the worker stops. Another worker runs the stage again at once.

        Such an attempt has not failed: it uses up none of the stage's attempts.

        Raises:
            HandOver: always. Let it pass.
            RuntimeError: if the worker does not stop.
        """
        if not self.stopping():
            raise RuntimeError("The worker does not stop: call hand_over() only if stopping() returns True")
        raise HandOver

    def step(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function once for all attempts at this stage, and return its output as read back from JSON.

        A later call with this name, also by a later attempt, returns the stored output. What the function raises passes
        and is not stored. On an event loop this returns an awaitable, and the function may be a coroutine function.

        Args:
            name: The name of the step, unique within the stage.
            function: What to call. Its output is JSON of at most `MAHAVISHNU_MAX_RESULT_BYTES`.
            args: Its arguments, which must be the same in each attempt and, as JSON, are compared.
            kwargs: Its keyword arguments, likewise.

        Raises:
            StepRefused: if the name is used with other arguments or cannot be stored, if the arguments are not JSON, in
                a transaction, and above `MAHAVISHNU_MAX_STEPS` steps.
            StaleAttempt: if the attempt has ended meanwhile.
            BadOutput: if the output is not JSON, or too large.
        """
        if self._has_transaction():
            raise StepRefused(
                f"Step {name} is inside a transaction, whose end decides whether its output is stored. Expected a step "
                "outside of transaction.atomic(), and in a stage without atomic=True."
            )
        return self._steps.call(name, function, args, kwargs)

    def log(self, message: object) -> None:
        """Send a message to the run's subscribers, as a `workflow.stage_log` event.

        Never raises. A message that cannot be stored is dropped, and logged for operators.
        """
        limits = engine_limits()
        text = storable(masked(text_of(message)))
        logger.info("%s/%s: %s", self.workflow_id, self.stage_name, text[:200])
        self._message_count += 1
        if self._message_count > limits.max_log_messages:
            return
        if self._message_count == limits.max_log_messages:
            text = f"{text[: limits.max_log_message_characters // 2]} (message limit reached; later ones are dropped)"
        text = truncate(text, limits.max_log_message_characters)
        self._send_message(text)

    def progress(self, progress: float, message: object = "") -> None:
        """Report progress from 0 to 1, as a `workflow.stage_progress` event.

        Calls are throttled: each call replaces an unsent one, and the last call is always sent. Never raises. Progress
        that is no number or cannot be stored is dropped, and logged for operators.
        """
        try:
            share = min(max(float(progress), 0.0), 1.0)
        except Exception:
            share = math.nan
        if math.isnan(share):
            self._log_dropped(services.InvalidArgument("progress", progress, "a number from 0 to 1"))
            return
        now = time.monotonic()
        self._pending_progress = (share, "" if message is None else masked(text_of(message)))
        if now - self._progress_sent_at >= engine_limits().progress_interval_seconds:
            self._progress_sent_at = now
            self.flush_progress()

    def flush_progress(self) -> None:
        """Send the progress that the throttle has held back, and the last step."""
        self._steps.flush()
        pending, self._pending_progress = self._pending_progress, None
        if pending is not None:
            share = pending[0]
            text = truncate(storable(pending[1]), engine_limits().max_log_message_characters)
            self._send_progress(share, text)

    def stream(self, name: str, *, content_type: StreamContentType = "text") -> Stream:
        """Open a stream of chunks, for `with`. Its readers get them while the stage runs, beside the events.

        Args:
            name: 1 to 64 of the characters A-Z a-z 0-9 . _ -
            content_type: Whether chunks are `text` or `bytes`.

        Raises:
            ValueError: if the name or the type is invalid, the attempt has opened a stream of this name before, or the
                stage has `MAHAVISHNU_MAX_STREAMS`, with those of its earlier attempts.
        """
        stream = self._streams.open(name, content_type)
        self._announce_stream(stream)
        return stream

    def hosted_started(self, stage_name: str) -> None:
        """Report that a hosted stage has started. Ignored if it has started or ended before."""
        self._change_stage(services.start_stage, stage_name)

    def hosted_completed(self, stage_name: str, output: Any = None, *, duration_ms: int | None = None) -> None:
        """Report that a hosted stage is completed.

        Args:
            stage_name: The hosted stage.
            output: JSON.
            duration_ms: How long it took; by default the time since its start was reported.
        """
        duration = {} if duration_ms is None else {"duration_ms": duration_ms}
        self._change_stage(services.complete_stage, stage_name, result={"output": masked_json(output), **duration})

    def hosted_failed(self, stage_name: str, error: object) -> None:
        """Report that a hosted stage failed. The run continues, unless the hosting stage fails too."""
        error = truncate(storable(masked(text_of(error))), engine_limits().max_error_characters)
        self._change_stage(services.fail_stage, stage_name, error=error)

    def _change_stage(self, service: Callable[..., Any], stage_name: str, **arguments: Any) -> None:
        try:
            self._query(lambda: service(workflow_id=self.workflow_id, stage_name=stage_name, **arguments))
        except (services.IllegalTransition, services.WorkflowNotRunning) as error:
            # An earlier attempt has reported the same, or the run has ended meanwhile.
            logger.debug("Ignored a report on a hosted stage: %s", error)

    def _send_message(self, message: str) -> None:
        at = timezone.now()
        self._report(lambda: services.report_message(self.stage_id, self.attempt, message=message, at=at))

    def _send_progress(self, progress: float, message: str) -> None:
        report, at = services.report_progress, timezone.now()
        self._report(lambda: report(self.stage_id, self.attempt, progress=progress, message=message, at=at))

    def _announce_stream(self, stream: Stream) -> None:
        name, content_type = stream.name, stream.content_type
        self._report(lambda: services.open_stream(self.stage_id, self.attempt, name=name, content_type=content_type))


_current: Context | None = None


def current_context() -> Context | None:
    """Return the context of the stage that this process runs, if any. A process runs one stage at a time."""
    return _current
