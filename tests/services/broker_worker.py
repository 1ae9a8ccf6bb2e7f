"""A worker of one slot that takes the messages of a pool from the real broker, in the process of the test."""

from __future__ import annotations

from collections.abc import Iterator

from orchestration import services
from orchestration.dispatch import celery_app
from orchestration.models import Stage
from orchestration.services import Claim, Slot


class BrokerWorker:
    """Takes one message after the other, claims its stage, and completes it."""

    def __init__(self, *, pool_id: str, name: str = "worker") -> None:
        self.pool_id = pool_id
        self.slot = Slot(worker_id=services.join_pool(name=name, process=name, pool_id=pool_id), process=name)

    def take(self) -> Claim | None:
        """Take the oldest message and claim its stage. None if the queue is empty, or the message is not due."""
        found = take_messages(self.pool_id, at_most=1)
        return services.claim_stage(*found[0], slot=self.slot) if found else None

    def complete(self, claim: Claim, *, continue_inline: bool = False) -> Claim | None:
        find_missing = services.nothing_missing if continue_inline else None
        outcome = services.complete_attempt(
            claim.stage.pk, claim.attempt, slot=self.slot, output=None, continue_inline=find_missing
        )
        assert outcome.accepted
        return outcome.next

    def run_next(self) -> Stage | None:
        """Take a message and complete its stage. None if there was none to run."""
        claim = self.take()
        if claim is None:
            return None
        self.complete(claim)
        return claim.stage

    def run_all(self) -> Iterator[Stage]:
        """Run stages until the queue is empty."""
        while (stage := self.run_next()) is not None:
            yield stage


def take_messages(pool_id: str, *, at_most: int) -> list[tuple[int, int]]:
    """Remove the oldest messages of a pool from the broker, and return the stage id and the attempt of each."""
    taken: list[tuple[int, int]] = []
    with celery_app().connection_for_write() as connection:
        channel = connection.default_channel
        while len(taken) < at_most and (message := channel.basic_get(pool_id, no_ack=True)) is not None:
            (stage_id, attempt), *_ = message.decode()
            taken.append((stage_id, attempt))
    return taken
