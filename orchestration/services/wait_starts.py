"""Let stages wait, and find what they have waited for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from orchestration.models import Stage, Wait, WaitStatus
from orchestration.plan import WaitPlan
from orchestration.services import validation
from orchestration.services.advance import NextStep
from orchestration.services.attempt_ends import AttemptOutcome, end_and_advance
from orchestration.services.attempts import Slot
from orchestration.services.capabilities import FindMissing
from orchestration.services.row_locks import AttemptEnded, lock_running
from orchestration.services.streams import WrittenStream, store_streams
from orchestration.services.waits import new_wait, start_wait, take_early_answer


@dataclass(frozen=True, slots=True)
class EndedWait:
    """How a wait inside of a stage ended.

    Attributes:
        answer: What it waited for; None if its time was over.
        is_expired: Whether its time was over.
    """

    answer: Any
    is_expired: bool


def open_wait(
    stage_id: int,
    attempt: int,
    *,
    slot: Slot,
    wait: WaitPlan,
    number: int = 0,
    resumes: bool = False,
    streams: Sequence[WrittenStream] = (),
    continue_inline: FindMissing | None = None,
    at: datetime | None = None,
) -> AttemptOutcome:
    """End an attempt after which the stage waits for an answer, a signal or a time, and holds no slot.

    `complete_attempt` describes the other arguments.

    Args:
        stage_id: The stage.
        attempt: The number of the attempt.
        slot: The worker that ran it.
        wait: What it waits for.
        number: How often the stage has waited for this name before.
        resumes: Whether the stage begins again at the end of the wait. Such an attempt uses up none of its attempts.
        streams: What the attempt has written into its streams. They are kept as long as no later attempt opens them.
        continue_inline: To claim a stage for the same worker, if the wait ends at once.
        at: The time of the change; None means now.

    Raises:
        NameAwaited: if another stage of the run has an open question of this name.
        PoolNotAccepting: if the next step belongs to a pool that is closed.
    """
    at = validation.timestamp(at)

    def start(stage: Stage) -> NextStep:
        store_streams(stage, streams, at=at)
        return start_wait(stage, wait, number=number, resumes=resumes, at=at)

    return end_and_advance(stage_id, attempt, start, slot=slot, continue_inline=continue_inline, at=at)


def find_ended_wait(
    stage_id: int, attempt: int, *, wait: WaitPlan, number: int, at: datetime | None = None
) -> EndedWait | None:
    """Return how a wait of a running stage has ended; None if the stage has to wait.

    A signal that came before is used here, so that the attempt need not end.

    Raises:
        AttemptEnded: if the attempt no longer runs.
    """
    at = validation.timestamp(at)
    ended = Wait.objects.filter(status__in=[WaitStatus.ANSWERED, WaitStatus.EXPIRED])
    known = ended.filter(stage_id=stage_id, kind=wait.kind, name=wait.name, number=number).first()
    if known is None:
        with transaction.atomic():
            stage = lock_running(stage_id, attempt)
            if stage is None:
                raise AttemptEnded(stage_id, attempt)
            known = new_wait(stage, wait, number=number, resumes=True, at=at)
            early = take_early_answer(known)
            if early is None:
                return None
            known.status = WaitStatus.ANSWERED.value
            known.answer, known.answered_by, known.answered_at = early.answer, early.answered_by, early.answered_at
            known.save()
    return EndedWait(known.answer, known.status == WaitStatus.EXPIRED)
