"""Run one attempt, from its message to its recorded outcome, in a child of the worker process."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from orchestration import services
from orchestration.db.retry import retry_while_unavailable
from orchestration.limits import engine_limits
from orchestration.sdk import Context, StageFailed, error_for_clients, find_adapter
from orchestration.sdk.outcome import checked_output, traceback_for_operators
from orchestration.services import AttemptOutcome, Claim, Slot
from orchestration.worker.slot_table import RunningAttempt, SharedSlot

logger = logging.getLogger(__name__)


def run_attempt(
    stage_id: int, attempt: int, *, shared_slot: SharedSlot, process: str, is_stopping: Callable[[], bool]
) -> None:
    """Claim and run an attempt, and record its outcome. For a while, continue inline with the next stages of its run.

    Does nothing if the attempt is no longer due.

    Args:
        stage_id: The primary key of the stage.
        attempt: The number of the attempt.
        shared_slot: The slot of this process.
        process: The id of the worker process.
        is_stopping: Returns whether a shutdown was requested.

    Raises:
        services.StaleWorker: if the slot's worker was marked offline. The message must be requeued.
        django.db.Error: if the database is unavailable, or rejects a statement. The message must be requeued only if
            it is unavailable.
    """
    slot = Slot(worker_id=shared_slot.worker_id, process=process)
    continue_until = time.monotonic() + engine_limits().inline_continuation_seconds
    shared_slot.running = RunningAttempt(stage_id, attempt, time.monotonic_ns(), 0)
    try:
        claim = services.claim_stage(stage_id, attempt, slot=slot)
        if claim is None:
            logger.debug("Skipped attempt %d of stage %d: it is not due", attempt, stage_id)
        while claim is not None:
            timeout_ms = math.ceil((claim.plan.timeout_seconds or 0) * 1000)
            shared_slot.running = RunningAttempt(claim.stage.pk, claim.attempt, time.monotonic_ns(), timeout_ms)
            result = _run_stage(claim, shared_slot)
            continue_inline = time.monotonic() < continue_until and not is_stopping()
            claim = _record(claim, slot, result, continue_inline=continue_inline)
    finally:
        shared_slot.running = None


class _Raised:
    """The exception that a stage raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _run_stage(claim: Claim, shared_slot: SharedSlot) -> Any | _Raised:
    """Run the stage and return its checked output, or the exception that it raised."""
    limits = engine_limits()
    stage, attempt = claim.stage, claim.attempt
    ctx = Context(
        workflow_id=claim.workflow.pk,
        stage_name=stage.name,
        stage_id=stage.pk,
        attempt=attempt,
        cancelled=lambda: shared_slot.is_cancelled(stage.pk, attempt),
        track_process_group=shared_slot.track_process_group,
    )
    try:
        inputs = {**claim.workflow.params, "prompt": claim.workflow.prompt}
        output = find_adapter(claim.workflow.adapter).run(claim.plan, ctx, inputs)
        checked = checked_output(output, max_bytes=limits.max_result_bytes)
        ctx.flush_progress()
    except BaseException as error:
        # SystemExit too: a stage must not end the process.
        return _Raised(error)
    return checked


def _record(claim: Claim, slot: Slot, result: Any | _Raised, *, continue_inline: bool) -> Claim | None:
    """Record the outcome of an attempt, and return the claim to continue with, if any."""
    limits = engine_limits()
    stage_id, attempt = claim.stage.pk, claim.attempt

    def record() -> AttemptOutcome:
        error = result.error if isinstance(result, _Raised) else None
        if error is None:
            try:
                return services.complete_attempt(
                    stage_id, attempt, slot=slot, output=result, continue_inline=continue_inline
                )
            except services.PoolNotAccepting as rejection:
                # The next step cannot run, nor could a retry of this stage change that.
                error = StageFailed(str(rejection), may_retry=False)
        return services.fail_attempt(
            stage_id,
            attempt,
            slot=slot,
            error=error_for_clients(error, limits),
            traceback=traceback_for_operators(error, limits),
            may_retry=error.may_retry if isinstance(error, StageFailed) else True,
        )

    # The work is done; only its outcome is not recorded yet. A late result is safe: it names its attempt, and is
    # rejected if a newer attempt owns the stage.
    outcome = retry_while_unavailable(record, timeout_seconds=limits.lease_seconds)
    if not outcome.accepted:
        logger.info("Ignored the result of attempt %d of %s: a newer attempt owns the stage", attempt, claim.stage)
    return outcome.next
