"""One attempt from its message to its end, in a child of the worker process."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from orchestration import services
from orchestration.adapters import StageFailed, adapter_named
from orchestration.db.retry import retry_while_unavailable
from orchestration.limits import engine_limits
from orchestration.sdk.context import Context
from orchestration.sdk.outcome import checked_output, error_for_clients, traceback_for_operators
from orchestration.services import AttemptOutcome, Claim, Slot
from orchestration.worker.slot_table import Running, SharedSlot

logger = logging.getLogger(__name__)


def run_attempt(stage_id: int, attempt: int, *, shared: SharedSlot, process: str, stopping: Callable[[], bool]) -> None:
    """Run an attempt if it is to be run, and record how it ended; then, for a while, the next stages of its run.

    Raises:
        services.StaleWorker: the slot's worker was taken for dead; the message is for somebody else, or for later.
        django.db.OperationalError: the database does not answer; the same.
    """
    slot = Slot(worker_id=shared.worker_id, process=process)
    goes_on_until = time.monotonic() + engine_limits().inline_continuation_seconds
    shared.running = Running(stage_id, attempt, time.monotonic_ns(), 0)
    try:
        claim = services.claim_stage(stage_id, attempt, slot=slot)
        if claim is None:
            logger.debug("Attempt %d at stage %d is not to be run (any more)", attempt, stage_id)
        while claim is not None:
            timeout_ms = math.ceil((claim.plan.timeout_seconds or 0) * 1000)
            shared.running = Running(claim.stage.pk, claim.attempt, time.monotonic_ns(), timeout_ms)
            outcome = _outcome(claim, shared)
            continue_inline = time.monotonic() < goes_on_until and not stopping()
            claim = _end(claim, slot, outcome, continue_inline=continue_inline)
    finally:
        shared.running = None


def _outcome(claim: Claim, shared: SharedSlot) -> Any | _Raised:
    """Run the stage and return its checked output, or what it raised."""
    limits = engine_limits()
    stage, attempt = claim.stage, claim.attempt
    ctx = Context(
        workflow_id=claim.workflow.pk,
        stage_name=stage.name,
        stage_id=stage.pk,
        attempt=attempt,
        cancelled=lambda: shared.is_cancelled(stage.pk, attempt),
    )
    try:
        inputs = {**claim.workflow.params, "prompt": claim.workflow.prompt}
        output = adapter_named(claim.workflow.adapter).run(claim.plan, ctx, inputs)
        checked = checked_output(output, max_bytes=limits.max_result_bytes)
        ctx.flush_progress()
    except BaseException as error:
        # SystemExit too: the process is not the stage's to end. Nothing leaves this function but values.
        return _Raised(error)
    return checked


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def _end(claim: Claim, slot: Slot, outcome: Any | _Raised, *, continue_inline: bool) -> Claim | None:
    """Record how an attempt ended, and return the one to run next, if any."""
    limits = engine_limits()
    stage_id, attempt = claim.stage.pk, claim.attempt

    def record() -> AttemptOutcome:
        if not isinstance(outcome, _Raised):
            return services.complete_attempt(
                stage_id, attempt, slot=slot, output=outcome, continue_inline=continue_inline
            )
        error = outcome.error
        return services.fail_attempt(
            stage_id,
            attempt,
            slot=slot,
            error=error_for_clients(error, limits),
            traceback=traceback_for_operators(error, limits),
            may_retry=error.may_retry if isinstance(error, StageFailed) else True,
        )

    # The work is done, and only this is left. Whoever takes the stage meanwhile is told apart by the attempt, so there
    # is no harm in being late.
    ended = retry_while_unavailable(record, timeout_seconds=engine_limits().lease_seconds)
    if not ended.accepted:
        logger.info("The end of attempt %d at %s came too late", attempt, claim.stage)
    return ended.next
