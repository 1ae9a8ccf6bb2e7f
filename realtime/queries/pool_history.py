"""Read the samples of a pool's counters, for `get_pool_history`: the last one of each step."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.db.models import F, Max, QuerySet

from orchestration.db.clock import database_now
from orchestration.identifiers import is_identifier
from orchestration.models import POOL_COUNTERS, Pool, PoolSample
from orchestration.models.pool_sample import SAMPLE_INTERVAL_SECONDS
from realtime.database import consistent_read
from realtime.eventlog.position import Position, current_position
from realtime.limits import Limits
from realtime.protocol.payload import encode_data, size_in_bytes
from realtime.protocol.requests import MAX_HISTORY_SAMPLES

DEFAULT_SAMPLES: Final = 360
"""The most samples of a history whose step the client leaves to the server: enough for a chart."""

EXAMINED_SAMPLE_BYTES: Final = 16
"""What a sample counts that is examined, whether it is read or not."""


def step_seconds_for(minutes: int, wanted_seconds: int | None) -> int:
    """Return a step on the grid of the samples, at least the wanted one, that is not too short for the minutes."""
    max_samples = DEFAULT_SAMPLES if wanted_seconds is None else MAX_HISTORY_SAMPLES
    seconds = max(wanted_seconds or 0, -(-minutes * 60 // max_samples))
    return -(-seconds // SAMPLE_INTERVAL_SECONDS) * SAMPLE_INTERVAL_SECONDS


@dataclass(frozen=True, slots=True)
class PoolHistory:
    """The samples of a pool.

    Attributes:
        position: Position of the log at which they were read.
        samples: JSON text of an array, oldest first.
        cost_bytes: What the budget of a connection is charged for.
    """

    position: Position
    samples: str
    cost_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolHistoryQuery:
    """The history of a pool in the last minutes, with at most one sample in each step.

    Attributes:
        pool_id: The pool.
        minutes: How long ago the history begins.
        step_seconds: What `step_seconds_for` returned.
    """

    pool_id: str
    minutes: int
    step_seconds: int

    @property
    def is_first(self) -> bool:
        return True

    def read(self, limits: Limits) -> PoolHistory | None:
        """Return the history, in one consistent read; None if the pool does not exist."""
        if not is_identifier(self.pool_id):
            return None
        with consistent_read():
            position = current_position()
            created_at = Pool.objects.filter(pk=self.pool_id).values_list("created_at", flat=True).first()
            if created_at is None:
                return None
            rows = self.rows(now=database_now(), created_at=created_at)
            samples = encode_data([_sample(*row) for row in rows])
        examined = self.minutes * 60 // SAMPLE_INTERVAL_SECONDS
        return PoolHistory(position, samples, size_in_bytes(samples) + EXAMINED_SAMPLE_BYTES * examined)

    def rows(self, *, now: datetime, created_at: datetime) -> QuerySet[PoolSample, tuple[int, ...]]:
        """Select the last sample of each step. Those of a removed pool with the same id are not the pool's."""
        steps = -(-self.minutes * 60 // self.step_seconds)
        last_step = int(now.timestamp()) // self.step_seconds
        first = max((last_step + 1 - steps) * self.step_seconds, int(created_at.timestamp()))
        samples = PoolSample.objects.filter(
            pool_id=self.pool_id, unix_seconds__gte=first, unix_seconds__lt=(last_step + 1) * self.step_seconds
        )
        if self.step_seconds > SAMPLE_INTERVAL_SECONDS:
            steps_of_samples = samples.annotate(step=F("unix_seconds") / self.step_seconds).values("step")
            last_of_steps = steps_of_samples.annotate(last=Max("unix_seconds")).values("last")
            samples = samples.filter(unix_seconds__in=last_of_steps)
        return samples.order_by("unix_seconds").values_list("unix_seconds", *POOL_COUNTERS)


def _sample(unix_seconds: int, *counters: int) -> dict[str, datetime | int]:
    return {"at": datetime.fromtimestamp(unix_seconds, UTC), **dict(zip(POOL_COUNTERS, counters, strict=True))}
