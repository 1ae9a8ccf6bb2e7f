"""Run a workflow in this process: the scheduler and the worker of one run, without broker, waits and processes."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import Q, QuerySet
from django.test.utils import override_settings

from orchestration import services, signals
from orchestration.db import before_commit
from orchestration.db.clock import database_now
from orchestration.models import FailureReason, Stage, StageStatus, Workflow, WorkflowStatus
from orchestration.sdk import Definition, HandOver
from orchestration.secret_mask import hide
from orchestration.services import Claim, Slot
from orchestration.services.attempt_failures import WORKER_DIED, timeout_error
from orchestration.testing.inline_stage import run_stage_inline
from orchestration.testing.inline_streams import InlineStreams
from orchestration.testing.inline_waits import InlineWaits
from orchestration.testing.result import InlineResult, read_result
from orchestration.testing.run_stuck import RunStuck
from orchestration.worker.outcome import record_outcome
from orchestration.worker.slot_table import RunningAttempt, SharedSlot
from orchestration.worker.stage_result import Raised, Recorded, Returned


class NoBroker:
    """Takes the place of the Celery application: messages to workers go nowhere."""

    def send_task(self, *args: Any, **options: Any) -> None:
        """Do nothing."""


no_broker: Final = NoBroker()

MAX_HAND_OVERS: Final = 100
"""How often a stage may raise `HandOver` in one run. Then the worker no longer stops for it, and its attempt fails."""

_ENDS: Final = (signals.workflow_completed, signals.workflow_failed, signals.workflow_cancelled)


class StageTimeout(BaseException):
    """Raise it in a stage, from a fake, to exceed the stage's time limit at once. A worker would kill the stage."""


class WorkerLost(BaseException):
    """Raise it in a stage, from a fake, to lose its worker there, as a power cut does. The stage runs again."""


_FAILURES: Final = (Exception, SystemExit, asyncio.CancelledError, StageTimeout, WorkerLost)


def run_inline(
    definition: Definition,
    /,
    prompt: str = "",
    *,
    key: str | None = None,
    pool: str | None = None,
    workflow_id: str | None = None,
    answers: Mapping[str, Any] | None = None,
    **params: Any,
) -> InlineResult:
    """Run a workflow to its end in this process, and return what was stored.

    The arguments are those of `start`. Stages of `parallel(…)` run one after another. The wait before a retry is
    skipped, and counts towards the time limit of the run. A stage that takes longer than its time limit is not
    interrupted; afterwards the attempt counts as timed out.

    `answers` has what stages are answered that wait, by the name of the stage or of the signal. For other waits, the
    time limit is over at once.

    Raises:
        RunStuck: if the run cannot continue without another process.
        Exception: what `start` raises. The error of a stage is in the result.
    """
    # The process of a test belongs to no deployment, and a workflow with `pin="release"` needs a release.
    release = settings.MAHAVISHNU_RELEASE or "inline"
    with (
        override_settings(MAHAVISHNU_CELERY_APP=f"{__name__}.no_broker", MAHAVISHNU_RELEASE=release),
        before_commit.recorded() as announced,
    ):
        run = definition.start(prompt, key=key, pool=pool, workflow_id=workflow_id, **params)
        worker = InlineWorker(run.workflow_id, answers=answers)
        with worker.connected():
            worker.run_to_the_end()
        return read_result(run.workflow, logs=worker.logs, announced=announced(), cause=worker.last_error)


class InlineSlot(SharedSlot):
    """The slot of the stage that runs. Its stage is cancelled at the deadline of its run, too."""

    deadline: float = math.inf
    """The deadline of the run, by this machine's monotonic clock."""

    time_limit: float = math.inf
    """When the time limit of the attempt is over, likewise."""

    def lift_time_limit(self) -> None:
        """End the time limit: an atomic stage does before its commit.

        Raises:
            StageTimeout: if the attempt or its run has taken too long, so that the stage is rolled back.
        """
        super().lift_time_limit()
        if time.monotonic() >= min(self.time_limit, self.deadline):
            raise StageTimeout

    def is_cancelled(self, stage_id: int, attempt: int) -> bool:
        return time.monotonic() >= self.deadline or super().is_cancelled(stage_id, attempt)


class InlineWorker:
    """Runs the stages of one run, one at a time.

    Attributes:
        logs: The messages of each stage.
        last_error: The exception that a stage raised last.
    """

    def __init__(self, workflow_id: str, *, answers: Mapping[str, Any] | None = None) -> None:
        self.logs: dict[str, list[str]] = defaultdict(list)
        self.last_error: BaseException | None = None
        self._workflow_id = workflow_id
        self._waits = InlineWaits(workflow_id, answers or {})
        self._process = uuid.uuid4().hex
        self._slots: dict[str, InlineSlot] = {}
        self._slot: InlineSlot | None = None
        self._hand_overs: Counter[int] = Counter()
        # The clock of the run is ahead of the database's by the waits that were skipped.
        self._skipped = timedelta()
        # When stages are retried, by the clock of the run.
        self._retry_at: dict[int, datetime] = {}

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Receive the messages of the stages, and cancel the running one when its run ends."""
        signals.stage_logged.connect(self._on_log)
        for signal in _ENDS:
            signal.connect(self._on_end)
        try:
            yield
        finally:
            signals.stage_logged.disconnect(self._on_log)
            for signal in _ENDS:
                signal.disconnect(self._on_end)

    def run_to_the_end(self) -> None:
        """Run stages until the run has finished.

        Raises:
            RunStuck: if no stage can run.
        """
        try:
            while self._is_running():
                if not (self._run_next() or self._waits.answer_next() or self._skip_to_next()):
                    unfinished = self._stages().filter(finished_at=None).order_by("position")
                    raise RunStuck(self._workflow_id, list(unfinished.values_list("name", flat=True)))
        finally:
            hide(())
            for slot in self._slots.values():
                services.leave_pool(worker_id=slot.worker_id, process=self._process, error=WORKER_DIED)

    def _is_running(self) -> bool:
        """Time the run out if its deadline has passed. Return whether it is still running."""
        running = Workflow.objects.filter(pk=self._workflow_id, status=WorkflowStatus.RUNNING)
        if running.filter(deadline_at__lte=self._now()).exists():
            services.time_out_workflow(workflow_id=self._workflow_id)
        return running.exists()

    def _run_next(self) -> bool:
        """Run the next queued stage. Return False if there is none."""
        stage = self._stages().filter(status=StageStatus.QUEUED).order_by("step", "position").first()
        if stage is None:
            return False
        slot = self._slot_in(stage.pool_id or "")
        owner = Slot(worker_id=slot.worker_id, process=self._process)
        claim = services.claim_stage(stage.pk, stage.attempt + 1, slot=owner)
        if claim is not None:
            self._run(claim, slot, owner)
        return claim is not None

    def _run(self, claim: Claim, slot: InlineSlot, owner: Slot) -> None:
        began, timeout_seconds = self._now(), claim.plan.timeout_seconds
        streams = InlineStreams()
        result = self._run_stage(claim, owner, slot, streams)
        error = result.error if isinstance(result, Raised) else None
        if isinstance(result, Raised):
            result.by_stop = isinstance(error, HandOver) and self._stops_for(claim.stage)
        if error is not None and not isinstance(error, _FAILURES):
            raise error  # It is for the test: Ctrl-C, or what `pytest.fail` raises.
        self.last_error = error or self.last_error
        if isinstance(error, StageTimeout):
            self._skip_to_timeout(claim, began)
        seconds = (self._now() - began).total_seconds()
        self._is_running()  # A run whose deadline has passed ends before its attempt does.
        if isinstance(error, WorkerLost):
            self._crash(claim, owner, reason=FailureReason.LOST, error=WORKER_DIED)
        elif timeout_seconds is not None and seconds >= timeout_seconds:
            self._crash(claim, owner, reason=FailureReason.TIMED_OUT, error=timeout_error(timeout_seconds))
        else:
            record_outcome(claim, owner, result, streams=streams, continue_inline=False)
        stage = self._stages().get(pk=claim.stage.pk)
        if stage.retry_at is not None:
            self._retry_at[stage.pk] = stage.retry_at + self._skipped

    def _stops_for(self, stage: Stage) -> bool:
        """Return whether the worker stops for a stage that hands over: `MAX_HAND_OVERS` times.

        A real worker that does not stop fails such an attempt at once. In a test, no other event stops the worker.
        """
        self._hand_overs[stage.pk] += 1
        return self._hand_overs[stage.pk] <= MAX_HAND_OVERS

    def _run_stage(
        self, claim: Claim, owner: Slot, slot: InlineSlot, streams: InlineStreams
    ) -> Returned | Raised | Recorded:
        deadline_at = claim.workflow.deadline_at
        slot.time_limit = time.monotonic() + (claim.plan.timeout_seconds or math.inf)
        slot.deadline = math.inf
        if deadline_at is not None:
            slot.deadline = time.monotonic() + (deadline_at - self._now()).total_seconds()
        slot.running = RunningAttempt(claim.stage.pk, claim.attempt, time.monotonic_ns(), 0, os.getpid())
        self._slot = slot
        try:
            return run_stage_inline(claim, owner, slot, streams)
        finally:
            self._slot = slot.running = None

    def _skip_to_timeout(self, claim: Claim, began: datetime) -> None:
        """Set the clock of the run to the time limit of the attempt, or of the run if that is earlier."""
        ends = [] if claim.workflow.deadline_at is None else [claim.workflow.deadline_at]
        if claim.plan.timeout_seconds is not None:
            ends.append(began + timedelta(seconds=claim.plan.timeout_seconds))
        if not ends:
            raise ValueError(f"StageTimeout in {claim.stage.name}: neither the stage nor its run has a time limit")
        self._skipped += max(timedelta(), min(ends) - self._now())

    def _crash(self, claim: Claim, owner: Slot, *, reason: FailureReason, error: str) -> None:
        services.crash_worker(
            worker_id=owner.worker_id,
            process=owner.process,
            error=error,
            ran=(claim.stage.pk, claim.attempt),
            reason=reason,
        )

    def _skip_to_next(self) -> bool:
        """Skip the time until the next retry, or the end of a wait. Return False if neither is due at any time."""
        waiting = self._stages().filter(status=StageStatus.PENDING).exclude(retry_at=None)
        stored = {pk: retry_at for pk, retry_at in waiting.values_list("pk", "retry_at") if retry_at is not None}
        retry = min(((self._retry_at.get(pk, at), pk) for pk, at in stored.items()), default=None)
        wait = self._waits.next_due(self._skipped)
        if retry is None and wait is None:
            return False
        is_retry = wait is None or (retry is not None and retry[0] <= wait[0])
        due_at, pk = retry if is_retry and retry is not None else wait or (self._now(), 0)
        self._skipped += max(timedelta(), due_at - self._now())
        if not self._is_running():
            return True
        if is_retry:
            services.queue_retry(pk, due_before=stored[pk])
        else:
            self._waits.expire(pk)
        return True

    def _slot_in(self, pool_id: str) -> InlineSlot:
        if pool_id not in self._slots:
            slot = InlineSlot()
            slot.worker_id = services.join_pool(
                name="inline", process=self._process, pool_id=pool_id, release=settings.MAHAVISHNU_RELEASE
            )
            self._slots[pool_id] = slot
        return self._slots[pool_id]

    def _stages(self) -> QuerySet[Stage]:
        return Stage.objects.filter(Q(workflow_id=self._workflow_id) | Q(workflow__root_id=self._workflow_id))

    def _now(self) -> datetime:
        return database_now() + self._skipped

    def _on_log(self, stage: Stage, message: str, **_: Any) -> None:
        if stage.workflow_id == self._workflow_id:
            self.logs[stage.name].append(message)

    def _on_end(self, workflow: Workflow, **_: Any) -> None:
        if workflow.pk == self._workflow_id and self._slot is not None and self._slot.running is not None:
            self._slot.request_cancel(self._slot.running)
