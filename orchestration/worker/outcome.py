"""Record the outcome of an attempt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypedDict

from orchestration import services
from orchestration.db.retry import is_unavailable, retry_while_unavailable
from orchestration.limits import engine_limits
from orchestration.models import FailureReason
from orchestration.sdk import HandOver, MissingRequirement, StageFailed, StageSkipped, error_for_clients
from orchestration.sdk.outcome import traceback_for_operators
from orchestration.services import AttemptOutcome, Claim, FindMissing, Slot
from orchestration.services.attempt_failures import STAGE_TERMINATED, TRANSACTION_LOST, WORKER_STOPPED
from orchestration.text import storable, text_of, truncate
from orchestration.worker.code_check import find_missing_for_continuation, requirement_of
from orchestration.worker.stage_result import REJECTIONS, Raised, Recorded, Returned, UntimelyHandOver
from orchestration.worker.stream_sender import AttemptStreams

logger = logging.getLogger(__name__)


def record_outcome(
    claim: Claim,
    slot: Slot,
    result: Returned | Raised | Recorded,
    *,
    streams: AttemptStreams | None = None,
    continue_inline: bool,
    is_expired: Callable[[], bool] | None = None,
) -> Claim | None:
    """Record the outcome of an attempt, and return the claim to continue with, if any.

    While the database is unavailable, or another transaction holds one of the rows, the record is repeated. Meanwhile
    the supervisor renews the lease, and ends this process if the attempt was ended by others.

    Args:
        claim: The attempt.
        slot: The worker that ran it.
        result: Its output, or what it raised.
        streams: Its streams.
        continue_inline: Whether to claim a stage of the next step.
        is_expired: Returns whether the record may be repeated no longer; None means after `lease_seconds`.
    """
    if isinstance(result, Recorded):
        if streams is not None:
            streams.announce_end()
        return result.outcome.next

    def record() -> AttemptOutcome:
        error = result.error if isinstance(result, Raised) else None
        try:
            if isinstance(result, Returned) or isinstance(error, StageSkipped):
                return _record_end(claim, slot, result, streams, continue_inline=continue_inline)
        except REJECTIONS as rejection:
            # The next steps cannot run, nor could a retry of this stage change that.
            return _record_error(claim, slot, Raised(StageFailed(str(rejection), may_retry=False)))
        return _record_error(claim, slot, result)

    # The work is done; only its outcome is not recorded yet. A late result is safe: it names its attempt, and is
    # rejected if the stage has ended or has a newer attempt.
    if is_expired is None:
        outcome = retry_while_unavailable(record, timeout_seconds=engine_limits().lease_seconds)
    else:
        outcome = retry_while_unavailable(record, timeout_seconds=None, is_expired=is_expired)
    if not outcome.accepted:
        # An atomic stage may have been committed before what followed, such as an `on_commit` function, raised this.
        error = result.error if isinstance(result, Raised) and claim.plan.atomic else None
        text = "Ignored the result of attempt %d of %s: the stage has ended or has a newer attempt"
        logger.info(text, claim.attempt, claim.stage, exc_info=error)
    elif streams is not None:
        streams.announce_end()
    return outcome.next


class _Continuation(TypedDict):
    slot: Slot
    continue_inline: FindMissing | None


def _record_end(
    claim: Claim,
    slot: Slot,
    result: Returned | Raised,
    streams: AttemptStreams | None,
    *,
    continue_inline: bool,
) -> AttemptOutcome:
    """Complete the attempt or, if the stage raised `StageSkipped`, skip the stage."""
    stage_id, attempt = claim.stage.pk, claim.attempt
    continuation = _Continuation(slot=slot, continue_inline=find_missing_for_continuation if continue_inline else None)
    if isinstance(result, Raised):
        reason = truncate(storable(text_of(result.error)), engine_limits().max_error_characters)
        return services.skip_attempt(stage_id, attempt, reason=reason, **continuation)
    written = () if streams is None else streams.written()
    if (waits := result.wait_for_runs) is not None:
        return services.wait_for_sub_runs(
            stage_id,
            attempt,
            run_ids=waits.run_ids,
            max_failed=waits.allow_failed,
            is_list=waits.is_list,
            streams=written,
            **continuation,
        )
    if result.wait is not None:
        return services.open_wait(
            stage_id,
            attempt,
            wait=result.wait,
            number=result.wait_number,
            resumes=result.resumes,
            streams=written,
            **continuation,
        )
    if result.map_values is not None:
        return services.start_map(stage_id, attempt, values=result.map_values, **continuation)
    return services.complete_attempt(
        stage_id, attempt, output=result.output, next_stages=result.next_stages, streams=written, **continuation
    )


def _record_error(claim: Claim, slot: Slot, raised: Raised) -> AttemptOutcome:
    """Release the attempt if its worker is the cause, and else fail it."""
    limits = engine_limits()
    stage_id, attempt, error = claim.stage.pk, claim.attempt, raised.error
    if raised.by_stop:
        return services.release_attempt(
            stage_id, attempt, slot=slot, error=f"{WORKER_STOPPED}: {error_for_clients(error, limits)}"
        )
    if raised.by_termination:
        text = f"{STAGE_TERMINATED}: {error_for_clients(error, limits)}"
        return services.release_attempt(stage_id, attempt, slot=slot, error=text, reason=FailureReason.LOST)
    if claim.plan.atomic and is_unavailable(error):
        # The database has ended the transaction, not the stage. If its commit was executed, this changes nothing.
        text = f"{TRANSACTION_LOST}: {error_for_clients(error, limits)}"
        return services.release_attempt(stage_id, attempt, slot=slot, error=text, reason=FailureReason.LOST)
    if isinstance(error, MissingRequirement):
        return services.release_attempt(stage_id, attempt, slot=slot, missing=requirement_of(error))
    if isinstance(error, HandOver):
        error = UntimelyHandOver().with_traceback(error.__traceback__)
    return services.fail_attempt(
        stage_id,
        attempt,
        slot=slot,
        error=error_for_clients(error, limits),
        traceback=traceback_for_operators(error, limits),
        may_retry=error.may_retry if isinstance(error, StageFailed) else True,
    )
