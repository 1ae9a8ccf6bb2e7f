"""What a scheduler could not do: rows are set aside for a while, and jobs that stay stuck are reported."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from orchestration.db.retry import is_contended
from orchestration.log_throttle import LogThrottle
from orchestration.text import text_of

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 1.0
"""How long a row is set aside after its first failure. Doubles with each further failure."""

MAX_PAUSE_SECONDS: Final = 60.0

STUCK_SECONDS: Final = 10.0
"""A job in which something has failed for this long is reported as stuck."""

MAX_FAILURES: Final = 1000
"""The most failures that are remembered and logged one by one. Further rows are tried again in each round."""


class Job(StrEnum):
    """A job of a scheduler: the name of its method.

    Attributes:
        row_action: What it does to a row, for the log; empty if it handles no single rows.
    """

    row_action: str

    RECORD_HEARTBEAT = "record_heartbeat"
    QUEUE_RETRIES = "queue_retries", "queue the retry of stage"
    EXPIRE_WAITS = "expire_waits", "end the wait"
    HOLD_UNCLAIMED = "hold_unclaimed", "hold the workflow of stage"
    REDISPATCH = "redispatch", "redispatch the stages of pool"
    END_HOLDS = "end_holds", "end the hold of workflow"
    DISPATCH_REFUSED = "dispatch_refused"
    REFILL_WINDOWS = "refill_windows", "dispatch the next stages of workflow"
    TIME_OUT_WORKFLOWS = "time_out_workflows", "time out workflow"
    CANCEL_SUB_RUNS = "cancel_sub_runs", "cancel sub-run"
    END_CANCELLATIONS = "end_cancellations", "end the cancellation of the sub-runs of workflow"
    EXPIRE_WORKERS = "expire_workers", "mark offline the worker"
    EXPIRE_LEASES = "expire_leases", "end the expired attempt at stage"
    PUBLISH_POOL_METRICS = "publish_pool_metrics", "publish the metrics of pool"
    PUBLISH_MAP_PROGRESS = "publish_map_progress", "publish the counts of items of stage"
    CONTINUE_STALLED_RUNS = "continue_stalled_runs", "continue workflow"
    PRUNE_RUNS = "prune_runs"
    PRUNE_WORKERS = "prune_workers"
    SAMPLE_POOLS = "sample_pools"

    def __new__(cls, name: str, row_action: str = "") -> Self:
        job = str.__new__(cls, name)
        job._value_ = name
        job.row_action = row_action
        return job


@dataclass(slots=True)
class _Failure:
    """A row, or a whole job, that has failed at least once and not succeeded since.

    Attributes:
        since: When it failed first.
        pause_seconds: How long it is set aside.
        until: When it is tried again.
    """

    since: float
    pause_seconds: float
    until: float


class Failures:
    """The failures of one scheduler."""

    def __init__(self) -> None:
        self._failures: dict[tuple[Job, object], _Failure] = {}
        self._further = LogThrottle(logger, level=logging.ERROR)

    def add(self, job: Job, pk: object, error: Exception) -> None:
        """Remember and log a failure of a row, or of the whole job if `pk` is empty."""
        now = time.monotonic()
        failure = self._failures.get((job, pk))
        if failure is not None:
            failure.pause_seconds = min(2 * failure.pause_seconds, MAX_PAUSE_SECONDS)
            failure.until = now + failure.pause_seconds
            return
        action = f"{job.row_action} {pk}" if pk != "" else f"run the job {job}"
        if len(self._failures) >= MAX_FAILURES:
            reason = f"{type(error).__name__}: {text_of(error)}"
            self._further.log("Cannot %s either (%s); %d other actions fail already", action, reason, MAX_FAILURES)
            return
        if is_contended(error):
            logger.warning("Cannot %s yet: another transaction holds a lock (%s)", action, type(error).__name__)
        else:
            logger.error("Cannot %s; the scheduler tries again later, less and less often", action, exc_info=error)
        until = now + FIRST_PAUSE_SECONDS
        self._failures[job, pk] = _Failure(now, FIRST_PAUSE_SECONDS, until)

    def discard(self, job: Job, pk: object) -> None:
        """Forget the failure of what has succeeded now."""
        if self._failures:
            self._failures.pop((job, pk), None)

    def set_aside(self, job: Job) -> list[object]:
        """Return the primary keys of the rows that this job must not try yet. Forget rows that are due no longer."""
        if not self._failures:
            return []
        now = time.monotonic()
        for key, failure in list(self._failures.items()):
            if now - failure.until > MAX_PAUSE_SECONDS:
                del self._failures[key]
        return [pk for (name, pk), failure in self._failures.items() if name == job and pk and failure.until > now]

    def stuck_jobs(self) -> list[str]:
        """Return the names of the jobs in which something has failed for `STUCK_SECONDS`, sorted."""
        now = time.monotonic()
        return sorted({job for (job, _), failure in self._failures.items() if now - failure.since >= STUCK_SECONDS})
