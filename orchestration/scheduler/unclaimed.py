"""What a scheduler does with dispatched stages that no worker has claimed."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import datetime

from orchestration import services
from orchestration.dispatch import dispatch, message_for, queued_messages
from orchestration.models import Stage

logger = logging.getLogger(__name__)


class Holds:
    """The holds of one pass: of runs whose pool has no worker."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    def hold_run(self, stage_id: int) -> int:
        """Hold the run of this stage if its pool has no worker. Return 0 if it is held, or locked by a transaction."""
        stage = Stage.objects.filter(pk=stage_id).only("pool", "workflow").first()
        if stage is None or stage.pool_id is None:
            return 0
        held = services.hold_unclaimed(stage.pool_id, [stage.workflow_id])
        self._held[stage.pool_id] += held
        return held

    def log(self) -> None:
        """Log how many runs of each pool were held."""
        for pool_id, held in sorted((+self._held).items()):
            logger.warning("Pool %s has no worker; %d of its workflows wait for one", pool_id, held)


def redispatch(pool_id: str, stages: list[Stage], now: datetime) -> int:
    """Redispatch those of these stages whose messages the broker no longer holds, and return how many that are."""
    messages = [message_for(stage) for stage in stages]
    missing = services.missing_messages(pool_id, held=queued_messages(pool_id))
    services.delay_redispatch([message.stage_id for message in messages], now=now)
    if missing == 0:
        return 0
    accepted = dispatch(messages if missing is None else messages[:missing])
    logger.info("Redispatched %d queued stages of pool %s", accepted, pool_id)
    return accepted
