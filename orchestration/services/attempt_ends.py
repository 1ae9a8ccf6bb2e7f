"""Record how an attempt at a stage ended.

A stage id and a number identify an attempt. Ending an attempt needs both, and changes nothing if a newer attempt has
started or the stage has finished in another way. So a worker that was marked offline cannot change anything when it
returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from orchestration.models import FailureReason, Stage, StageStatus, Worker, WorkerStatus
from orchestration.models.pool_counters import batched_counters
from orchestration.models.stage import MAX_SKIP_REASON_LENGTH
from orchestration.plan import StagePlan
from orchestration.services import validation
from orchestration.services.added_steps import add_steps
from orchestration.services.advance import NextStep, complete_stage_of_run, queue_step
from orchestration.services.attempt_failures import record_failure
from orchestration.services.attempts import Claim, Slot, set_worker_status, start_attempt
from orchestration.services.capabilities import FindMissing, Requirement, find_known_missing, meet_requirements
from orchestration.services.holds import record_refusal
from orchestration.services.map_items import start_items, step_behind
from orchestration.services.pools import reject_closed_pool
from orchestration.services.row_locks import lock_running, lock_slot_worker
from orchestration.services.streams import WrittenStream, store_streams
from orchestration.services.sub_run_waits import begin_wait
from orchestration.text import truncate


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptOutcome:
    """The result of reporting the end of an attempt.

    Attributes:
        accepted: False if the stage has ended or has a newer attempt: then nothing changed.
        next: The attempt that the worker must run now, if any.
    """

    accepted: bool
    next: Claim | None = None


def complete_attempt(
    stage_id: int,
    attempt: int,
    *,
    slot: Slot,
    output: Any,
    next_stages: Sequence[StagePlan] = (),
    streams: Sequence[WrittenStream] = (),
    continue_inline: FindMissing | None = None,
    at: datetime | None = None,
) -> AttemptOutcome:
    """Complete an attempt, advance its workflow, and set the worker idle.

    Args:
        stage_id: The stage.
        attempt: The number of the attempt.
        slot: The worker that ran it.
        output: JSON, checked by the caller.
        next_stages: What the stage adds behind itself; step 0 is the next one.
        streams: What it has written into its streams.
        continue_inline: To claim a stage of the next step for the same worker, if its pool has one. It returns what the
            worker lacks to run the stage. That saves the round trip through the broker, and the worker stays busy.
            None to claim none.
        at: The time of the change; None means now.

    Raises:
        PoolNotAccepting: if the next step or an added stage belongs to a pool that is closed.
        TooManyStages: if the run would have more stages than a run may have.
        ItemAddsSteps: if an item of a map adds steps.
        UnknownPool: if an added stage belongs to a pool that does not exist, and none may be created.
    """
    at = validation.timestamp(at)

    def complete(stage: Stage) -> NextStep:
        store_streams(stage, streams, at=at)
        complete_stage_of_run(stage, output, at=at)
        if next_stages:
            add_steps(stage, next_stages, at=at)
        return step_behind(stage, at=at)

    return end_and_advance(stage_id, attempt, complete, slot=slot, continue_inline=continue_inline, at=at)


def skip_attempt(
    stage_id: int,
    attempt: int,
    *,
    slot: Slot,
    reason: str = "",
    continue_inline: FindMissing | None = None,
    at: datetime | None = None,
) -> AttemptOutcome:
    """End an attempt by skipping its stage: it has no output. `complete_attempt` describes the rest.

    A long reason is truncated.

    Raises:
        PoolNotAccepting: if the next step belongs to a pool that is closed.
    """
    at = validation.timestamp(at)

    def skip(stage: Stage) -> NextStep:
        stage.status = StageStatus.SKIPPED.value
        stage.skip_reason = truncate(reason, MAX_SKIP_REASON_LENGTH)
        stage.save_locked(at=at, update_fields=["status", "skip_reason"])
        return step_behind(stage, at=at)

    return end_and_advance(stage_id, attempt, skip, slot=slot, continue_inline=continue_inline, at=at)


def start_map(
    stage_id: int,
    attempt: int,
    *,
    slot: Slot,
    values: Sequence[Any],
    continue_inline: FindMissing | None = None,
    at: datetime | None = None,
) -> AttemptOutcome:
    """End an attempt by which a stage has found its values: it waits for its items, and holds no slot.

    `complete_attempt` describes the other arguments.

    Args:
        stage_id: The stage.
        attempt: The number of the attempt.
        slot: The worker that ran it.
        values: The value of each item; JSON, checked by the caller.
        continue_inline: To claim an item for the same worker.
        at: The time of the change; None means now.

    Raises:
        PoolNotAccepting: if the next step belongs to a pool that is closed.
    """
    at = validation.timestamp(at)
    return end_and_advance(
        stage_id,
        attempt,
        lambda stage: start_items(stage, values, at=at),
        slot=slot,
        continue_inline=continue_inline,
        at=at,
    )


def wait_for_sub_runs(
    stage_id: int,
    attempt: int,
    *,
    slot: Slot,
    run_ids: Sequence[str],
    max_failed: int = 0,
    is_list: bool = False,
    streams: Sequence[WrittenStream] = (),
    continue_inline: FindMissing | None = None,
    at: datetime | None = None,
) -> AttemptOutcome:
    """End an attempt by which a stage has started sub-runs: it waits for them, and holds no slot.

    `begin_wait` and `complete_attempt` describe the arguments, and what is raised.
    """
    at = validation.timestamp(at)

    def wait(stage: Stage) -> NextStep:
        # The attempt writes nothing more, and Redis does not keep them until the sub-runs have finished.
        store_streams(stage, streams, at=at)
        return begin_wait(stage, run_ids, max_failed=max_failed, is_list=is_list, at=at)

    return end_and_advance(stage_id, attempt, wait, slot=slot, continue_inline=continue_inline, at=at)


def end_and_advance(
    stage_id: int,
    attempt: int,
    end: Callable[[Stage], NextStep],
    *,
    slot: Slot,
    continue_inline: FindMissing | None,
    at: datetime,
) -> AttemptOutcome:
    """End a running attempt without a failure, and queue the next step of its run or start a stage of it."""
    claim = None
    with reject_closed_pool("stages"), transaction.atomic(), batched_counters(at=at):
        worker = lock_slot_worker(slot.worker_id, slot.process)
        stage = lock_running(stage_id, attempt)
        if stage is not None:
            step = end(stage)
            if worker is not None:
                meet_requirements(worker, stage, has_run=True)
                if continue_inline is not None and worker.stage_id == stage_id and not worker.draining:
                    claim = _claim_next(worker, step, continue_inline, at=at)
            queue_step(step, at=at)
        if claim is None:
            _release(worker, stage_id, at=at)
    return AttemptOutcome(accepted=stage is not None, next=claim)


def _claim_next(worker: Worker, step: NextStep, find_missing: FindMissing, *, at: datetime) -> Claim | None:
    """Take a stage of the worker's pool out of a step, and start it; None if there is none that it can run."""
    mine = next((each for each in step.stages if each.pool_id == worker.pool_id), None)
    if mine is None or (find_known_missing(worker, mine, at=at) or find_missing(mine)) is not None:
        return None
    step.stages.remove(mine)
    claim = start_attempt(mine.mark_locked(), worker, at=at)
    worker.save_locked(at=at, update_fields=["stage"])
    return claim


def fail_attempt(
    stage_id: int,
    attempt: int,
    *,
    slot: Slot,
    error: str,
    traceback: str = "",
    may_retry: bool = True,
    at: datetime | None = None,
) -> AttemptOutcome:
    """Fail an attempt and set the worker idle. Retry the stage if it has attempts left, else fail the workflow."""
    at = validation.timestamp(at)
    with transaction.atomic(), batched_counters(at=at):
        worker = lock_slot_worker(slot.worker_id, slot.process)
        stage = lock_running(stage_id, attempt)
        if stage is not None:
            record_failure(
                stage, reason=FailureReason.FAILED, error=error, traceback=traceback, may_retry=may_retry, at=at
            )
        _release(worker, stage_id, at=at)
    return AttemptOutcome(accepted=stage is not None)


def release_attempt(
    stage_id: int,
    attempt: int,
    *,
    slot: Slot,
    error: str = "",
    reason: FailureReason = FailureReason.RELEASED,
    missing: Requirement | None = None,
    at: datetime | None = None,
) -> AttemptOutcome:
    """Give back an attempt, and set the worker idle. The stage is queued again; it has used up none of its attempts.

    Args:
        stage_id: The stage.
        attempt: The number of the attempt.
        slot: The worker that ran it.
        error: The error, unless the worker lacks something.
        reason: Released, or lost if its process was to end although the worker did not stop. A stage may lose
            `max_lost_attempts`. Not used with `missing`.
        missing: What the stage needs and the worker lacks. The process of this worker does not claim the stage again
            for `NOT_RUNNABLE_SECONDS`.
        at: The time of the change; None means now.
    """
    at = validation.timestamp(at)
    with transaction.atomic(), batched_counters(at=at):
        worker = lock_slot_worker(slot.worker_id, slot.process)
        stage = lock_running(stage_id, attempt)
        if stage is not None:
            if missing is None:
                record_failure(stage, reason=reason, error=error, at=at)
            else:
                reason = FailureReason.NOT_RUNNABLE
                record_failure(stage, reason=reason, error=missing.name, traceback=missing.reason, at=at)
                # Not if the run has moved: the workers of the other pool are offered the stage.
                if worker is not None and stage.status == StageStatus.QUEUED:
                    record_refusal(worker, stage, missing, at_run_time=True, at=at)
        _release(worker, stage_id, at=at)
    return AttemptOutcome(accepted=stage is not None)


def _release(worker: Worker | None, stage_id: int, *, at: datetime) -> None:
    # If its stage was deleted meanwhile, the worker is busy with none.
    if worker is not None and (
        worker.stage_id == stage_id or (worker.stage_id is None and worker.status == WorkerStatus.BUSY)
    ):
        worker.stage = None
        set_worker_status(worker, WorkerStatus.IDLE, at=at)
