"""The state of an observed application, as its events say. Pure: it reads no clock and does no I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from orchestration.models.workflow import MAX_WORKFLOW_NAME_LENGTH
from orchestration.observers.celery.bounds import (
    CONFIRM_SECONDS,
    MAX_ENDED_TREES,
    MAX_NOTES,
    MAX_PARTS,
    MAX_TASKS,
    MAX_TASKS_PER_TREE,
    MAX_TREES,
    MAX_UNPLACED,
    PLACE_SECONDS,
)
from orchestration.observers.celery.events import Event, Kind, TaskEvent, WorkerEvent, WorkerReply
from orchestration.observers.celery.identity import SHORT_ID_CHARACTERS, Identity, line, short_id, stage_name
from orchestration.observers.celery.reports import ReportLog, StoredTask, event_time
from orchestration.observers.celery.tasks import Task, TaskReporter, TaskState, Tree
from orchestration.observers.celery.workers import Worker, Workers
from orchestration.services.report_types import Report

_OUTCOME_UNKNOWN: Final = "Celery does not report what became of the task"


@dataclass(slots=True)
class Counts:
    """What could not be shown, in numbers of events or trees."""

    events: int = 0
    invalid: int = 0
    unknown: int = 0
    forgotten: int = 0
    dropped: int = 0


class Observer:
    """Turns events into reports.

    Args:
        identity: The ids of the application.
        settle_seconds: How long no task of a tree may be unfinished before the tree has ended.
        shows_arguments: Whether arguments and results are reported.
        is_finished: Whether the workflow of this id has ended, as far as the database has it.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        settle_seconds: float,
        shows_arguments: bool = False,
        is_finished: Callable[[str], bool] = lambda workflow_id: False,
    ) -> None:
        self._identity = identity
        self._settle_seconds = settle_seconds
        self._is_finished = is_finished
        self._log = ReportLog()
        self._tasks = TaskReporter(self._log, shows_arguments=shows_arguments)
        self._trees: OrderedDict[str, Tree] = OrderedDict()  # The one without an event for the longest time is first.
        self._tree_of: dict[str, Tree] = {}
        self._parts: OrderedDict[str, int] = OrderedDict()
        # Tasks that ran before a gap, and of which nothing has arrived since.
        self._unconfirmed: set[str] = set()
        # Tasks that run, as their workers answer, and whose tree is not known yet.
        self._unplaced: dict[str, tuple[TaskEvent, float]] = {}
        self._unconfirmed_since = 0.0
        self.workers = Workers(identity, self._log)
        self.counts = Counts()

    @property
    def size(self) -> tuple[int, int]:
        """How many unfinished trees, and tasks of them, are in memory."""
        return len(self._trees), len(self._tree_of)

    def take_reports(self) -> list[Report]:
        """Return the reports since the last call."""
        return self._log.take()

    def restore(self, stored: Iterable[StoredTask], *, now: datetime, clock: float) -> None:
        """Continue with the unfinished workflows of an earlier observer."""
        self._unconfirmed_since = clock
        for row in stored:
            first, part = self._identity.part_of(row.workflow_id)
            self._parts[first] = part
            tree = self._trees.get(row.workflow_id) or self._new_tree(row.workflow_id, now, clock)
            key = row.stage[-SHORT_ID_CHARACTERS:]
            self._add(tree, key, self._tasks.restore(tree, row.stage, row.status, row.retries, row.error))
            if tree.tasks[key].state is TaskState.RUNNING:
                self._unconfirmed.add(key)

    def apply(self, event: Event | None, *, now: datetime, clock: float) -> None:
        """Change the state as an event says. None is a payload that was no event."""
        self.counts.events += 1
        if event is None:
            self.counts.invalid += 1
        elif isinstance(event, WorkerEvent):
            self._apply_to_worker(event, event_time(event.timestamp, now=now), clock)
        else:
            self._apply_to_task(event, event_time(event.timestamp, now=now), clock)

    def apply_reply(self, reply: WorkerReply, *, now: datetime, clock: float) -> None:
        """Change the state as a worker has answered."""
        worker = self.workers.see(reply.hostname, clock=clock)
        if worker is None:
            return
        if reply.queues is not None:
            self.workers.set_queues(worker, reply.queues, now)
            self.workers.refresh(worker, now)
        for task in reply.active or ():
            key = short_id(task.uuid)
            if key in self._tree_of:
                self._apply_to_task(task, event_time(task.timestamp, now=now), clock)
            elif len(self._unplaced) < MAX_UNPLACED:
                self._unplaced[key] = (task, clock)

    def note_gap(self, seconds: float, *, now: datetime, clock: float) -> None:
        """Report to the running tasks that events may be missing. Those that no worker names afterwards may be lost."""
        message = f"The observer was without the broker for {seconds:.1f} s: events of this time are missing"
        running = [key for key, tree in self._tree_of.items() if tree.tasks[key].state is TaskState.RUNNING]
        for tree, task in self._known(running[:MAX_NOTES]):
            self._tasks.note(tree, task, message, now)
        self._unconfirmed.update(running)
        self._unconfirmed_since = clock

    def tick(self, *, now: datetime, clock: float) -> None:
        """End trees that have settled, and mark silent workers as offline."""
        for tree in [tree for tree in self._trees.values() if not tree.unfinished]:
            if clock - tree.touched >= self._settle_seconds:
                self._tasks.finish(tree, tree.changed_at)
                self._forget(tree)
        for hostname, worker in self.workers.expired(clock=clock, at=now):
            self._go_offline(hostname, worker, now)
        if self._unconfirmed and clock - self._unconfirmed_since > CONFIRM_SECONDS:
            for tree, task in self._known(self._unconfirmed):
                self._tasks.lose(tree, task, f"No worker has named it since a gap. {_OUTCOME_UNKNOWN}", now)
            self._unconfirmed.clear()

        for event, since in [each for each in self._unplaced.values() if clock - each[1] > PLACE_SECONDS]:
            self._apply_to_task(event, event_time(event.timestamp, now=now), since)

    def _apply_to_worker(self, event: WorkerEvent, at: datetime, clock: float) -> None:
        if event.kind is Kind.OFFLINE:
            if (known := self.workers.get(event.hostname)) is not None:
                self._go_offline(event.hostname, known, at)
            return
        worker = self.workers.see(event.hostname, clock=clock)
        if worker is None:
            return
        if event.freq is not None and event.freq > 0:
            worker.freq = event.freq
        if event.pid is not None:
            if worker.pid not in (None, event.pid):
                self._lose_all(worker, at)
                worker.has_answered, worker.first_seen = False, clock
            worker.pid = event.pid
        self.workers.refresh(worker, at)

    def _go_offline(self, hostname: str, worker: Worker, at: datetime) -> None:
        self._lose_all(worker, at)
        self.workers.go_offline(worker, at)
        self.workers.forget(hostname)

    def _lose_all(self, worker: Worker, at: datetime) -> None:
        for key in list(worker.running):
            self._lose(worker, key, at, "Worker lost. " + _OUTCOME_UNKNOWN)

    def _lose(self, worker: Worker, key: str, at: datetime, message: str) -> None:
        worker.running.pop(key, None)
        for tree, task in self._known([key]):
            self._tasks.lose(tree, task, message, at)

    def _known(self, keys: Iterable[str]) -> Iterator[tuple[Tree, Task]]:
        for key in keys:
            if (tree := self._tree_of.get(key)) is not None:
                yield tree, tree.tasks[key]

    def _apply_to_task(self, event: TaskEvent, at: datetime, clock: float) -> None:
        # The sender of `task-sent` is a client, which is no worker.
        worker = None if event.kind is Kind.SENT else self.workers.see(event.hostname, clock=clock)
        key = short_id(event.uuid)
        self._unconfirmed.discard(key)
        if event.kind is not Kind.STARTED or event.name is not None:
            self._unplaced.pop(key, None)
        tree = self._tree_of.get(key) or self._tree_for(event, at, clock)
        if tree is None:
            self.counts.unknown += 1
            return
        tree.touched = clock
        self._trees.move_to_end(tree.workflow_id)
        task = tree.tasks.get(key) or self._new_task(tree, key, event, at, worker)
        if task is None:
            self.counts.dropped += 1
            return
        before = task.worker
        worker_id = worker.id if worker is not None and worker.pool_id else None
        self._tasks.apply(tree, task, event, at, worker_id)
        self._assign(before, task, key, tree, at)

    def _assign(self, before: str | None, task: Task, key: str, tree: Tree, at: datetime) -> None:
        """Move a task from the worker that ran it to that which runs it now."""
        if before == task.worker:
            return
        if before is not None and (old := self.workers.get(before)) is not None:
            old.running.pop(key, None)
            self.workers.refresh(old, at)
        if task.worker is not None and (new := self.workers.get(task.worker)) is not None:
            new.running[key] = tree.workflow_id
            self.workers.refresh(new, at)

    def _tree_for(self, event: TaskEvent, at: datetime, clock: float) -> Tree | None:
        """Return the tree of a task that is new. Only some events say which it is."""
        if event.kind not in (Kind.SENT, Kind.RECEIVED) and event.name is None:
            return None
        first = self._identity.workflow_id(event.root_id or event.uuid)
        part = self._parts.get(first, 1)
        while part <= MAX_PARTS:
            workflow_id = self._identity.workflow_id(event.root_id or event.uuid, part)
            if (tree := self._trees.get(workflow_id)) is not None:
                return tree
            if not self._is_finished(workflow_id):
                break
            part += 1
        else:
            return None
        self._parts[first] = part
        self._parts.move_to_end(first)
        while len(self._parts) > MAX_ENDED_TREES + MAX_TREES:
            self._parts.popitem(last=False)
        tree = self._new_tree(workflow_id, at, clock)
        return tree

    def _new_tree(self, workflow_id: str, at: datetime, clock: float) -> Tree:
        if len(self._trees) >= MAX_TREES:
            self._forget(next(iter(self._trees.values())))
            self.counts.forgotten += 1
        tree = self._trees[workflow_id] = Tree(workflow_id, at, clock)
        return tree

    def _new_task(self, tree: Tree, key: str, event: TaskEvent, at: datetime, worker: Worker | None) -> Task | None:
        while len(self._tree_of) >= MAX_TASKS and len(self._trees) > 1:
            oldest = next(iter(self._trees.values()))
            if oldest is tree:
                break
            self._forget(oldest)
            self.counts.forgotten += 1
        if len(tree.tasks) >= MAX_TASKS_PER_TREE:
            return None
        task = Task(stage_name(event.name or "", event.uuid))
        self._add(tree, key, task)
        pool_id = self._pool_of(event, worker, at)
        if len(tree.tasks) == 1:
            self._tasks.begin(tree, task, at, name=line(event.name or "", MAX_WORKFLOW_NAME_LENGTH), pool_id=pool_id)
        self._tasks.queue(tree, task, at, pool_id=pool_id)
        return task

    def _pool_of(self, event: TaskEvent, worker: Worker | None, at: datetime) -> str | None:
        if event.queue is not None:
            pool_id = self._identity.pool_id(event.queue)
            return pool_id if self.workers.show_pool(pool_id, at) else None
        return (worker.pool_id or None) if worker is not None else None

    def _add(self, tree: Tree, key: str, task: Task) -> None:
        tree.tasks[key] = task
        tree.unfinished += task.state is not TaskState.ENDED
        self._tree_of[key] = tree

    def _forget(self, tree: Tree) -> None:
        self._trees.pop(tree.workflow_id, None)
        first, part = self._identity.part_of(tree.workflow_id)
        if not tree.unfinished:
            self._parts[first] = part + 1
        for key in tree.tasks:
            if self._tree_of.get(key) is tree:
                del self._tree_of[key]
