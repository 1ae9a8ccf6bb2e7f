"""The state of one task, and of the tree of tasks that one call started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final

from orchestration.models import FailureReason, StageStatus, WorkflowStatus
from orchestration.observers.celery.events import Kind, TaskEvent
from orchestration.observers.celery.identity import line
from orchestration.observers.celery.reports import REPORTED_BY, ReportLog
from orchestration.services.report_types import AttemptFailure, ReportedStage, RunReport, StageMessage, StageReport

MAX_ERROR_CHARACTERS: Final = 500
"""Length of an exception; the rest is cut."""


class TaskState(Enum):
    """How far a task is."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(slots=True)
class Task:
    """One task.

    Attributes:
        stage: The name of its stage.
        worker: The node name of the worker that runs it.
        retries: How many times Celery has retried it.
        early_retries: How many of these were known before their event arrived.
        is_lost: Whether its worker was lost, so that its outcome may never be known.
    """

    stage: str
    state: TaskState = TaskState.QUEUED
    worker: str | None = None
    retries: int = 0
    early_retries: int = 0
    is_lost: bool = False


@dataclass(slots=True)
class Tree:
    """A tree of tasks, which is one workflow.

    Attributes:
        tasks: Its tasks, by short id.
        unfinished: How many have not ended.
        changed_at: The time of the last report; no later one is earlier.
        touched: When the last event arrived, on the monotonic clock.
        failed, revoked: How many tasks ended so.
        first_error: The error of the first that failed.
    """

    workflow_id: str
    changed_at: datetime
    touched: float
    tasks: dict[str, Task] = field(default_factory=dict)
    unfinished: int = 0
    failed: int = 0
    revoked: int = 0
    first_error: str = ""


@dataclass(frozen=True, slots=True)
class TaskReporter:
    """Changes tasks by their events, and reports that.

    Args:
        shows_arguments: Whether arguments and results are reported.
    """

    log: ReportLog
    shows_arguments: bool = False

    def apply(self, tree: Tree, task: Task, event: TaskEvent, at: datetime, worker_id: str | None) -> None:
        """Change a task as an event says. An event that comes late, or twice, changes nothing."""
        if task.state is TaskState.ENDED:
            return
        match event.kind:
            case Kind.RECEIVED:
                self._receive(tree, task, event, at)
            case Kind.STARTED:
                self._start(tree, task, event, at, worker_id)
            case Kind.SUCCEEDED:
                self._succeed(tree, task, event, at)
            case Kind.FAILED:
                self._fail(tree, task, _error(event.exception, "Failed"), at)
            case Kind.RETRIED if task.early_retries:
                task.early_retries -= 1
                # The retry was reported without its error, which only this event has.
                if error := _error(event.exception, ""):
                    self.note(tree, task, f"Retried after {error}", at)
            case Kind.RETRIED:
                task.retries += 1
                self._requeue(tree, task, _error(event.exception, "Retried"), at)
            case Kind.REVOKED:
                self._revoke(tree, task, event, at)
            case Kind.REJECTED if not event.requeue:
                self._fail(tree, task, "Rejected", at)
            case Kind.REJECTED | Kind.CANCELLED if task.state is TaskState.RUNNING:
                self._requeue(tree, task, "Its worker has returned it to the queue", at, FailureReason.LOST)

    def restore(self, tree: Tree, stage: str, status: str, retries: int, error: str) -> Task:
        """Return the task of a stage that an earlier observer reported."""
        tree.failed += status == "failed"
        tree.revoked += status == "skipped"
        if status == "failed":
            tree.first_error = tree.first_error or f"{stage}: {error}"
        states = {"pending": TaskState.QUEUED, "queued": TaskState.QUEUED, "running": TaskState.RUNNING}
        return Task(stage, state=states.get(status, TaskState.ENDED), retries=retries)

    def begin(self, tree: Tree, task: Task, at: datetime, *, name: str, pool_id: str | None) -> None:
        """Report a new tree with its first task."""
        at = self._advance(tree, at)
        self.log.add(
            RunReport(
                at=at,
                workflow_id=tree.workflow_id,
                status=WorkflowStatus.RUNNING,
                name=name,
                adapter=REPORTED_BY,
                pool_id=pool_id,
                stages=(ReportedStage(name=task.stage),),
            )
        )

    def queue(self, tree: Tree, task: Task, at: datetime, *, pool_id: str | None) -> None:
        """Report a new task as queued."""
        self._report_stage(tree, task, StageStatus.QUEUED, at, pool_id=pool_id)

    def note(self, tree: Tree, task: Task, message: str, at: datetime) -> None:
        """Report a message about a task."""
        at = self._advance(tree, at)
        self.log.add(StageMessage(at=at, workflow_id=tree.workflow_id, stage_name=task.stage, message=message))

    def lose(self, tree: Tree, task: Task, message: str, at: datetime) -> None:
        """Report once that the outcome of a running task may never be known. It stays running."""
        if task.state is TaskState.RUNNING and not task.is_lost:
            task.is_lost = True
            self.note(tree, task, message, at)

    def finish(self, tree: Tree, at: datetime) -> None:
        """Report the end of a tree, all of whose tasks have ended."""
        total, status, error = len(tree.tasks), WorkflowStatus.COMPLETED, ""
        if tree.failed:
            status = WorkflowStatus.FAILED
            error = f"{tree.failed} of {total} tasks failed; the first: {tree.first_error}"
        elif tree.revoked:
            status, error = WorkflowStatus.CANCELLED, f"{tree.revoked} of {total} tasks were revoked"
        at = self._advance(tree, at)
        self.log.add(RunReport(at=at, workflow_id=tree.workflow_id, status=status, error=error))

    def _receive(self, tree: Tree, task: Task, event: TaskEvent, at: datetime) -> None:
        retries = event.retries or 0
        if task.state is TaskState.RUNNING:
            if retries > task.retries:
                # Another worker has received the retry before the event of the failure arrived.
                task.early_retries += 1
                self._requeue(tree, task, "Retried", at)
            else:
                error = "Delivered again: its worker was lost, or held it for too long"
                self._requeue(tree, task, error, at, FailureReason.LOST)
        task.retries = max(task.retries, retries)
        # The event of the start has no arguments.
        if self.shows_arguments and event.args is not None:
            self.note(tree, task, line(f"args={event.args} kwargs={event.kwargs}", 1000), at)

    def _start(self, tree: Tree, task: Task, event: TaskEvent, at: datetime, worker_id: str | None) -> None:
        if task.state is TaskState.RUNNING:
            if task.worker in (None, event.hostname):
                # It is known to run: an earlier observer has reported its start, or the worker lists what it runs.
                task.worker, task.is_lost = event.hostname, False
                return
            self._requeue(tree, task, "Started by another worker", at, FailureReason.LOST)
        task.state, task.worker, task.is_lost = TaskState.RUNNING, event.hostname, False
        self._report_stage(tree, task, StageStatus.RUNNING, at, worker_id=worker_id)

    def _succeed(self, tree: Tree, task: Task, event: TaskEvent, at: datetime) -> None:
        result: dict[str, object] = {}
        if event.runtime is not None and 0 <= event.runtime < 1e9:
            result["duration_ms"] = round(event.runtime * 1000)
        if self.shows_arguments and event.result is not None:
            result["output"] = line(event.result, 1000)
        self._end(tree, task)
        self._report_stage(tree, task, StageStatus.COMPLETED, at, result=result)

    def _fail(self, tree: Tree, task: Task, error: str, at: datetime) -> None:
        self._end(tree, task)
        tree.failed += 1
        tree.first_error = tree.first_error or f"{task.stage}: {error}"
        self._report_stage(tree, task, StageStatus.FAILED, at, error=error)

    def _revoke(self, tree: Tree, task: Task, event: TaskEvent, at: datetime) -> None:
        has_run = task.state is TaskState.RUNNING
        self._end(tree, task)
        tree.revoked += 1
        if has_run or event.terminated:
            self._report_stage(tree, task, StageStatus.FAILED, at, error="Revoked while it ran")
        else:
            self._report_stage(tree, task, StageStatus.SKIPPED, at)

    def _requeue(
        self, tree: Tree, task: Task, error: str, at: datetime, reason: FailureReason = FailureReason.FAILED
    ) -> None:
        task.state, task.worker, task.is_lost = TaskState.QUEUED, None, False
        at = self._advance(tree, at)
        self.log.add(
            AttemptFailure(at=at, workflow_id=tree.workflow_id, stage_name=task.stage, error=error, reason=reason)
        )

    def _end(self, tree: Tree, task: Task) -> None:
        task.state, task.worker, task.is_lost = TaskState.ENDED, None, False
        tree.unfinished -= 1

    def _report_stage(
        self,
        tree: Tree,
        task: Task,
        status: StageStatus,
        at: datetime,
        *,
        pool_id: str | None = None,
        worker_id: str | None = None,
        result: Mapping[str, object] | None = None,
        error: str = "",
    ) -> None:
        self.log.add(
            StageReport(
                at=self._advance(tree, at),
                workflow_id=tree.workflow_id,
                stage_name=task.stage,
                status=status,
                pool_id=pool_id,
                worker_id=worker_id,
                result=result,
                error=error,
            )
        )

    def _advance(self, tree: Tree, at: datetime) -> datetime:
        """Return the time of a change. The clocks of two workers differ: within a workflow, time only moves forward."""
        tree.changed_at = max(tree.changed_at, at)
        return tree.changed_at


def _error(exception: str | None, otherwise: str) -> str:
    return line(exception or "", MAX_ERROR_CHARACTERS) or otherwise
