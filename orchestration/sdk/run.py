"""A started run: wait for it, cancel it, retry it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.db import connection
from django.utils.asyncio import async_unsafe

from orchestration import services
from orchestration.models import FINISHED_WORKFLOW_STATUSES, Stage, Workflow, WorkflowStatus
from orchestration.sdk import answers
from orchestration.sdk.answer_links import DEFAULT_VALID_SECONDS, make_link
from orchestration.sdk.context import current_context

logger = logging.getLogger(__name__)

_FIRST_POLL_SECONDS: Final = 0.005
_LONGEST_POLL_SECONDS: Final = 0.1


class RunFailed(Exception):
    """The run ended as failed, cancelled or timed out."""

    def __init__(self, workflow_id: str, status: str, error: str) -> None:
        self.workflow_id = workflow_id
        self.status = status
        self.error = error
        super().__init__(workflow_id, status, error)

    def __str__(self) -> str:
        return f"Workflow {self.workflow_id} has status {self.status}{f': {self.error}' if self.error else ''}"


class RunTimeout(TimeoutError):
    """The caller stopped waiting; the run continues."""

    def __init__(self, workflow_id: str, timeout_seconds: float) -> None:
        self.workflow_id = workflow_id
        self.timeout_seconds = timeout_seconds
        super().__init__(f"Workflow {workflow_id} did not finish within {timeout_seconds:g} s")


class WaitInTransaction(Exception):
    """`wait` was called in a database transaction, during which the run cannot end."""

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        super().__init__(workflow_id)

    def __str__(self) -> str:
        return (
            f"Cannot wait for workflow {self.workflow_id} in a database transaction: a run starts after the commit, "
            "and SQLite has one writer at a time. Wait after the transaction. With ATOMIC_REQUESTS, each view is one."
        )


@dataclass(frozen=True)
class Run:
    """One run, by its id. Methods that begin with `a` are for code on an event loop.

    All methods raise `orchestration.services.WorkflowNotFound` if no run has this id.
    """

    workflow_id: str

    @property
    def workflow(self) -> Workflow:
        """The run as it is stored now."""
        try:
            return Workflow.objects.get(pk=self.workflow_id)
        except Workflow.DoesNotExist:
            raise services.WorkflowNotFound(self.workflow_id) from None

    @async_unsafe("cancel() would block the event loop: use `await acancel(…)`")
    def cancel(self, *, reason: str = "") -> None:
        """Cancel the run. Queued stages do not start; running ones are cancelled, and killed after a grace period.

        Raises:
            orchestration.services.IllegalTransition: if it is finished already.
        """
        services.cancel_workflow(workflow_id=self.workflow_id, reason=reason)

    @async_unsafe("retry() would block the event loop: use `await aretry(…)`")
    def retry(self, *, from_stage: str | None = None, failed_items_only: bool = False) -> None:
        """Run a finished run again.

        Args:
            from_stage: Repeat this stage and all stages of later steps too. By default only the stages that are not
                completed are repeated.
            failed_items_only: Of that stage, which runs once for each value of a list, repeat only the items that
                failed or had not ended. The others keep their outputs; all stages of later steps are repeated.

        Raises:
            orchestration.services.IllegalTransition: if it is not finished, or is completed and `from_stage` is None.
            orchestration.services.StageNotFound: if it has no such stage.
            orchestration.services.NoFailedItems: if the stage has no such items.
            orchestration.services.InvalidArgument: if `failed_items_only` has no `from_stage`.
        """
        services.retry_run(workflow_id=self.workflow_id, from_stage=from_stage, failed_items_only=failed_items_only)

    @async_unsafe("answer() would block the event loop: use `await aanswer(…)`")
    def answer(self, name: str, value: Any, *, by: str = "", wait_id: int | None = None) -> None:
        """Answer what the run asks, now or later: the first valid answer wins.

        Args:
            name: The name of the stage that asks.
            value: The answer, as its form describes it: JSON, or an object of the form.
            by: Who answers.
            wait_id: The question, as `list_waits` names it, if it may be no other one of this name.

        Raises:
            orchestration.services.InvalidAnswer: if it does not fit the form.
            orchestration.services.WaitNotFound: if no stage of the run asks under this name.
            orchestration.services.AlreadyAnswered, orchestration.services.WaitExpired
            orchestration.services.WaitClosed: if the run has ended, or was run again after the question `wait_id`.
            orchestration.services.TooManyEarlyAnswers: if no stage asks yet, and the run keeps too many answers.
            orchestration.services.InvalidArgument: if `by` is too long.
        """
        answers.answer(self.workflow_id, name, value, by=by, wait_id=wait_id)

    @async_unsafe("answer_link() would block the event loop: use `await aanswer_link(…)`")
    def answer_link(self, name: str, *, by: str = "", valid_seconds: float = DEFAULT_VALID_SECONDS) -> str:
        """Return the path of a link that answers what the run asks now: `POST` it with `{"answer": …}`.

        The link is signed with `SECRET_KEY`, and is a permission for this one answer: send it only to who may answer.

        Args:
            name: The name of the stage that asks.
            by: Who answers with it.
            valid_seconds: How long it is good. It is void earlier if the question is answered, expires or is closed.

        Raises:
            InvalidDefinition: if `valid_seconds` is no duration of at most a year.
            orchestration.services.InvalidArgument: if `by` is too long.
            orchestration.services.WaitNotFound: if the run does not ask that now.
        """
        return make_link(self.workflow_id, name, by=by, valid_seconds=valid_seconds)

    @async_unsafe("signal() would block the event loop: use `await asignal(…)`")
    def signal(self, name: str, payload: Any = None, *, by: str = "") -> None:
        """Send a signal to the run. The stage that has waited longest for it takes it; else it is kept for the next.

        Args:
            name: The name of the signal.
            payload: What it contains: JSON, or an object of the form of the wait.
            by: Who sends it.

        Raises:
            orchestration.services.InvalidAnswer: if it does not fit the form of the stage that waits.
            orchestration.services.InvalidIdentifier: if that is no name of a signal.
            orchestration.services.InvalidArgument: if `by` is too long.
            orchestration.services.TooManyEarlyAnswers: if the run keeps too many signals.
            orchestration.services.WaitClosed: if the run has ended.
        """
        answers.send_signal(self.workflow_id, name, payload, by=by)

    @async_unsafe("wait() would block the event loop: use `await awaited(…)`")
    def wait(self, *, timeout_seconds: float | None = None) -> Any:
        """Wait until the run is completed, and return its `final_output`.

        A stage that waits like this keeps its slot. If the run needs slots of the same pool, it may wait forever: use a
        sub-run, for which a stage waits without a slot (`ctx.start`, `WaitForRuns`).

        Raises:
            RunFailed: if it fails, times out or is cancelled.
            RunTimeout: if it is not finished after `timeout_seconds`.
            WaitInTransaction: if it is not finished and a database transaction is open.
        """
        self._check_may_wait()
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        for pause in _poll_intervals():
            finished, output = self._poll()
            if finished:
                return output
            if deadline is not None and time.monotonic() + pause > deadline:
                raise RunTimeout(self.workflow_id, timeout_seconds or 0)
            time.sleep(pause)

    async def acancel(self, *, reason: str = "") -> None:
        """`cancel`, for code on an event loop."""
        await sync_to_async(self.cancel)(reason=reason)

    async def aretry(self, *, from_stage: str | None = None, failed_items_only: bool = False) -> None:
        """`retry`, for code on an event loop."""
        await sync_to_async(self.retry)(from_stage=from_stage, failed_items_only=failed_items_only)

    async def aanswer(self, name: str, value: Any, *, by: str = "", wait_id: int | None = None) -> None:
        """`answer`, for code on an event loop."""
        await sync_to_async(self.answer)(name, value, by=by, wait_id=wait_id)

    async def aanswer_link(self, name: str, *, by: str = "", valid_seconds: float = DEFAULT_VALID_SECONDS) -> str:
        """`answer_link`, for code on an event loop."""
        return await sync_to_async(self.answer_link)(name, by=by, valid_seconds=valid_seconds)

    async def asignal(self, name: str, payload: Any = None, *, by: str = "") -> None:
        """`signal`, for code on an event loop."""
        await sync_to_async(self.signal)(name, payload, by=by)

    async def awaited(self, *, timeout_seconds: float | None = None) -> Any:
        """`wait`, without a thread that blocks between polls. `await run` is the same without a time limit."""
        await sync_to_async(self._check_may_wait)()
        loop = asyncio.get_running_loop()
        deadline = None if timeout_seconds is None else loop.time() + timeout_seconds
        for pause in _poll_intervals():
            finished, output = await sync_to_async(self._poll)()
            if finished:
                return output
            if deadline is not None and loop.time() + pause > deadline:
                raise RunTimeout(self.workflow_id, timeout_seconds or 0)
            await asyncio.sleep(pause)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.awaited().__await__()

    def _check_may_wait(self) -> None:
        """Reject a wait in a transaction, and warn of one in a stage that holds a slot of the run's pool."""
        in_transaction = connection.in_atomic_block or not connection.get_autocommit()
        stage = current_context()
        if not in_transaction and stage is None:
            return
        workflow = self.workflow
        if workflow.status in FINISHED_WORKFLOW_STATUSES:
            return
        if in_transaction:
            raise WaitInTransaction(self.workflow_id)
        if stage is not None and Stage.objects.filter(pk=stage.stage_id, pool_id=workflow.pool_id).exists():
            logger.warning(
                "Stage %s/%s waits for workflow %s in its own pool %s, and keeps a slot that the workflow may need; "
                "a sub-run needs none",
                *(stage.workflow_id, stage.stage_name, self.workflow_id, workflow.pool_id),
            )

    def _poll(self) -> tuple[bool, Any]:
        """Return whether the run is completed, and its output."""
        found = Workflow.objects.filter(pk=self.workflow_id).values_list("status", "error", "result").first()
        if found is None:
            raise services.WorkflowNotFound(self.workflow_id)
        status, error, result = found
        if status == WorkflowStatus.COMPLETED:
            return True, (result or {}).get("final_output")
        if status in FINISHED_WORKFLOW_STATUSES:
            raise RunFailed(self.workflow_id, status, error)
        return False, None


def _poll_intervals() -> Iterator[float]:
    """Yield the seconds between polls: short at first, for short runs, and never long."""
    interval = _FIRST_POLL_SECONDS
    while True:
        yield interval
        interval = min(interval * 1.5, _LONGEST_POLL_SECONDS)
