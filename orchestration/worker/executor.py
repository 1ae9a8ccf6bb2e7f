"""Run one attempt, from its message to its recorded outcome, in a child of the worker process."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NoReturn

from orchestration import services
from orchestration.limits import engine_limits
from orchestration.plan import StagePlan
from orchestration.sdk import (
    Context,
    Done,
    HandOver,
    Next,
    Suspended,
    WaitForRuns,
    adapter_of,
    find_adapter,
)
from orchestration.sdk.map_items import MapItems
from orchestration.sdk.outcome import checked_output
from orchestration.sdk.stage_errors import SecretInPlan, StageFailed
from orchestration.sdk.waits import OpenWait
from orchestration.secret_mask import contains_secret, masked
from orchestration.services import AttemptOutcome, Claim, Slot
from orchestration.worker.atomic_stage import run_atomic_stage
from orchestration.worker.code_check import (
    UncheckedCode,
    check_code,
    find_missing,
    inputs_of_run,
)
from orchestration.worker.engine_part import run_engine_part
from orchestration.worker.outcome import record_outcome
from orchestration.worker.process_state import ProcessState
from orchestration.worker.slot_table import RunningAttempt, SharedSlot
from orchestration.worker.stage_connections import StageConnections
from orchestration.worker.stage_result import OpenTransaction, Raised, Recorded, Returned
from orchestration.worker.stream_sender import AttemptStreams
from orchestration.worker.termination import deferred_termination, may_be_terminated

logger = logging.getLogger(__name__)

_STOP_NOTICE_SECONDS = 1.0
"""How long an error that SIGTERM may have caused waits for the notice that the worker stops."""

_POLL_SECONDS = 0.02


def run_attempt(
    stage_id: int,
    attempt: int,
    *,
    shared_slot: SharedSlot,
    process: str,
    is_stopping: Callable[[], bool],
    is_shutting_down: Callable[[], bool],
    is_grace_over: Callable[[], bool],
) -> None:
    """Claim and run an attempt, and record its outcome. For a while, continue inline with the next stages of its run.

    Does nothing if the attempt is no longer due. Must be called in the main thread.

    Args:
        stage_id: The primary key of the stage.
        attempt: The number of the attempt.
        shared_slot: The slot of this process.
        process: The id of the worker process.
        is_stopping: Returns whether no new stage may start: the worker drains or shuts down.
        is_shutting_down: Returns whether a shutdown was requested: stages that take too long are killed.
        is_grace_over: Returns whether the time is over that they have: then an outcome that cannot be recorded is lost.

    Raises:
        services.StaleWorker: if the slot's worker drains or was marked offline. The message must be requeued.
        services.StageNotRunnable: if this worker lacks the code of the stage, or has another release. The message
            has no further use.
        django.db.Error: if the database is unavailable, or rejects a statement. The message must be requeued only if
            it is unavailable.
    """
    slot = Slot(worker_id=shared_slot.worker_id, process=process)
    continue_until = time.monotonic() + engine_limits().inline_continuation_seconds
    shared_slot.running = _running(stage_id, attempt)
    try:
        with deferred_termination() as termination:
            claim = _claim(stage_id, attempt, slot)
            if claim is None:
                logger.debug("Skipped attempt %d of stage %d: it is not due", attempt, stage_id)
            else:
                # Each stage of the run leaves the process as it was, or is the last one here.
                state = ProcessState.capture()
            while claim is not None:
                shared_slot.running = _running(claim.stage.pk, claim.attempt, claim.plan.timeout_seconds)
                streams = AttemptStreams(claim)
                result = run_stage(claim, slot, shared_slot, state, streams=streams, is_stopping=is_stopping)
                shared_slot.lift_time_limit()
                may_continue = not (termination.requested or shared_slot.must_replace or is_stopping())
                continue_inline = may_continue and time.monotonic() < continue_until
                if isinstance(result, Raised):
                    may_hand_over = termination.requested or isinstance(result.error, HandOver)
                    result.by_stop = _is_caused_by_stop(
                        stops=is_stopping if may_hand_over else is_shutting_down,
                        may_be_early=termination.requested or may_be_terminated(result.error),
                    )
                    result.by_termination = termination.requested and not result.by_stop
                claim = record_outcome(
                    claim, slot, result, streams=streams, continue_inline=continue_inline, is_expired=is_grace_over
                )
        if termination.requested:
            shared_slot.must_replace = True
    finally:
        shared_slot.running = None


def _claim(stage_id: int, attempt: int, slot: Slot) -> Claim | None:
    try:
        return services.claim_stage(stage_id, attempt, slot=slot, find_missing=find_missing)
    except UncheckedCode as unchecked:
        stage = unchecked.stage
    with StageConnections().active():
        missing = check_code(stage)
    return services.claim_stage(stage_id, attempt, slot=slot, find_missing=lambda _: missing)


def _running(stage_id: int, attempt: int, timeout_seconds: float | None = None) -> RunningAttempt:
    return RunningAttempt(stage_id, attempt, time.monotonic_ns(), math.ceil((timeout_seconds or 0) * 1000), os.getpid())


def run_stage(
    claim: Claim,
    slot: Slot,
    shared_slot: SharedSlot,
    state: ProcessState,
    *,
    streams: AttemptStreams,
    is_stopping: Callable[[], bool],
) -> Returned | Raised | Recorded:
    """Run the stage on separate database connections; return its checked output, or the exception that it raised.

    Restore the state of the process.
    """
    connections = StageConnections()
    with connections.active():
        result = call_stage(
            claim,
            slot,
            shared_slot,
            streams=streams,
            is_stopping=is_stopping,
            engine_connections=connections.of_engine,
        )
        streams.close()
        # Before the engine's connections return: they are not found while an event loop seems to run.
        unrestored = state.restore()
    asyncio.set_event_loop(None)
    if unrestored:
        shared_slot.must_replace = True
        logger.warning("%s changed its process (%s); the process is replaced", claim.stage, ", ".join(unrestored))
    if connections.must_replace:
        shared_slot.must_replace = True
        if not connections.left_open:
            logger.warning("A thread of an earlier stage left a transaction open; the process is replaced")
    if connections.left_open:
        logger.warning("%s left a transaction open; it is rolled back, and the process is replaced", claim.stage)
        if not isinstance(result, Raised | Recorded):
            return Raised(OpenTransaction(connections.left_open))
    return result


def call_stage(
    claim: Claim,
    slot: Slot,
    shared_slot: SharedSlot,
    *,
    streams: AttemptStreams | None = None,
    is_stopping: Callable[[], bool] = lambda: False,
    engine_connections: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Returned | Raised | Recorded:
    """Run the stage on the connections of this thread; return its checked output, or the exception that it raised.

    The attempt of an atomic stage is completed at once.
    """
    pid, stage = os.getpid(), claim.stage
    ctx = Context(
        workflow_id=claim.workflow.pk,
        stage_name=stage.name,
        stage_id=stage.pk,
        attempt=claim.attempt,
        cancelled=lambda: shared_slot.is_cancelled(stage.pk, claim.attempt),
        stopping=is_stopping,
        track_process_group=shared_slot.track_process_group,
        engine_connections=engine_connections,
        stream_sink=streams,
        known_streams=[each["name"] for each in claim.stage.streams or ()],
    )

    def run() -> Returned:
        try:
            inputs = inputs_of_run(claim.workflow)
            with ctx.current():
                output = run_engine_part(claim.plan, ctx, inputs)
                if output is None:
                    output = find_adapter(adapter_of(stage)).run(claim.plan, ctx, inputs)
            return _checked(output, claim.plan)
        finally:
            if os.getpid() != pid:
                _end_fork(claim, sys.exc_info()[1])

    def complete(returned: Returned) -> AttemptOutcome:
        shared_slot.lift_time_limit()
        # Not inline: whether this process may continue is known when its state is restored, after the commit.
        return services.complete_attempt(
            stage.pk,
            claim.attempt,
            slot=slot,
            output=returned.output,
            next_stages=returned.next_stages,
            streams=() if streams is None else streams.end(),
        )

    try:
        # The search for the values of items writes nothing.
        if claim.plan.atomic and claim.plan.each is None and claim.plan.wait is None:
            return run_atomic_stage(run, complete, ctx=ctx)
        result: Returned | Raised = run()
        ctx.flush_progress()
    except Suspended as suspended:
        ctx.flush_progress()
        result = Returned(None, wait=suspended.wait, wait_number=suspended.number, resumes=True)
    except BaseException as error:
        # SystemExit too: a stage must not end the process.
        result = Raised(error)
    return result


def _checked(returned: Any, plan: StagePlan) -> Returned:
    """Return what a stage returned, checked. The stages that it adds have its adapter by default.

    Raises:
        StageFailed: if an atomic stage is to wait for sub-runs: it could have started none.
        SecretInPlan: if an added stage contains a secret. Unlike in an output, a mask would be its argument.
    """
    max_bytes = engine_limits().max_result_bytes
    if isinstance(returned, WaitForRuns):
        if plan.atomic:
            raise StageFailed("A stage with atomic=True waits for no runs; expected an output", may_retry=False)
        return Returned(None, wait_for_runs=returned)
    if isinstance(returned, MapItems):
        return Returned(None, map_values=checked_output(returned.values, max_bytes=max_bytes))
    if isinstance(returned, OpenWait):
        return Returned(None, wait=returned.wait)
    added = returned.stages if isinstance(returned, Next) else ()
    next_stages = tuple(replace(each, adapter=each.adapter or plan.adapter) for each in added)
    for each in next_stages:
        if contains_secret(each.to_json()):
            raise SecretInPlan(f"The added stage {masked(each.name)}", "expected the stage to take it from its inputs")
    output = returned.output if isinstance(returned, Next | Done) else returned
    return Returned(checked_output(output, max_bytes=max_bytes), next_stages)


def _end_fork(claim: Claim, error: BaseException | None) -> NoReturn:
    """End a process that the stage forked, and that returned from the stage: only its parent records the outcome."""
    logger.warning("A process that %s had forked returned from the stage; it ends here", claim.stage, exc_info=error)
    os._exit(0 if error is None else 1)


def _is_caused_by_stop(*, stops: Callable[[], bool], may_be_early: bool) -> bool:
    """Return whether the worker stops, so that its stop may have caused an error: the stage runs again elsewhere.

    SIGTERM may reach the processes of a stage a moment before the worker notices its own stop.
    """
    deadline = time.monotonic() + (_STOP_NOTICE_SECONDS if may_be_early else 0)
    while not stops():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
