"""Whether a scheduler runs, and whether all of its jobs work: as its heartbeat in the database says."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models.functions import Now

from orchestration.models import SchedulerHeartbeat
from orchestration.services.pool_metrics import SCHEDULER_TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class SchedulerState:
    """What the heartbeat says.

    Attributes:
        status: `up`; `down` if the heartbeat is too old; `off` if all schedulers have stopped, or none has run yet.
        problem: A sentence, if the scheduler is down or one of its jobs is stuck.
    """

    status: str
    problem: str | None = None


def read_scheduler_state() -> SchedulerState:
    """Read the heartbeat.

    Raises:
        django.db.Error: if the database cannot be read.
    """
    found = SchedulerHeartbeat.objects.filter(pk=1).annotate(now=Now()).first()
    if found is None or found.heartbeat_at is None:
        return SchedulerState("off")
    age_seconds = (found.now - found.heartbeat_at).total_seconds()
    if age_seconds > SCHEDULER_TIMEOUT_SECONDS:
        return SchedulerState("down", f"scheduler: no heartbeat for {age_seconds:.0f} s")
    if found.stuck_jobs:
        return SchedulerState("up", f"scheduler: stuck in {', '.join(found.stuck_jobs.split(','))}")
    return SchedulerState("up")
