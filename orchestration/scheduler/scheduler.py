"""The scheduler: it acts on stages, workflows, workers and pools that are due.

Several schedulers may run at once, and each may be killed at any time. A pass selects due rows by partial indexes. A
service makes each change and checks the row again under lock, so if two schedulers find the same row, only one of them
changes it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import Error as DatabaseError
from django.db import connection

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.db.postgres_session import BACKGROUND_LOCK_TIMEOUT_SECONDS, limit_idle_transactions, limit_lock_waits
from orchestration.db.retry import is_contended, is_unavailable
from orchestration.db.stop_hooks import run_stop_hooks
from orchestration.limits import engine_limits
from orchestration.log_throttle import OutageLog
from orchestration.models import Stage
from orchestration.scheduler import due_select
from orchestration.scheduler.clock import SchedulerClock
from orchestration.scheduler.due_select import MAX_ROWS_PER_PASS, LockedRows, RowSelect, Sweep
from orchestration.scheduler.failures import Failures, Job
from orchestration.scheduler.pool_sampler import PoolSampler
from orchestration.scheduler.retention import run_pruning, worker_pruning
from orchestration.scheduler.runs import continue_stalled_run, time_out
from orchestration.scheduler.unclaimed import Holds, redispatch

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 0.5
"""How often a scheduler records a heartbeat."""

STALLED_RUNS_INTERVAL_SECONDS = 10.0
"""How often a scheduler looks for runs with nothing to do."""

MAX_LOCK_WAITS_PER_JOB = 3
"""A job ends its pass after it has waited in vain for this many locked rows."""


class Scheduler:
    """One scheduler. Each job handles the rows of one kind that are due at `now`, and returns how many it changed.

    If a row or a job fails, the others are handled. A row that fails is set aside, for longer each time. Only an
    unavailable database ends a pass.
    """

    def __init__(self) -> None:
        limit_lock_waits(BACKGROUND_LOCK_TIMEOUT_SECONDS)
        self._limits = engine_limits()
        limit_idle_transactions(self._limits.lease_seconds)
        self._locked_stages, self._locked_workers = LockedRows(self._limits), LockedRows(self._limits)
        self._sweeps: dict[Job, Sweep[Any]] = {}
        self._outage = OutageLog(
            logger,
            failed="Database unavailable (%r); the scheduler keeps trying",
            recovered="Database available again; the scheduler continues",
        )
        self._failures = Failures()
        self._lock_waits = 0
        self.jobs: list[Callable[[datetime], int]] = [
            self.record_heartbeat,
            self.queue_retries,
            self.expire_waits,
            # Before the redispatch, which delays the time when a stage is due.
            self.hold_unclaimed,
            self.redispatch,
            self.end_holds,
            self.dispatch_refused,
            self.refill_windows,
            self.time_out_workflows,
            # After the time limits, which cancel sub-runs too.
            self.cancel_sub_runs,
            self.end_cancellations,
            # Expire workers before leases: a worker without heartbeats is marked offline, not in error.
            self.expire_workers,
            self.expire_leases,
            self.publish_pool_metrics,
            self.publish_map_progress,
            self.continue_stalled_runs,
            self.prune_runs,
            self.prune_workers,
            PoolSampler().sample_pools,
        ]
        self._heartbeat_at = 0.0
        self._stalled_runs_due_at = 0.0
        self._run_pruning, self._worker_pruning = run_pruning(self._limits), worker_pruning(self._limits)
        self._clock = SchedulerClock(self._limits)

    def run(self, *, stopped: Callable[[float], bool]) -> None:
        """Run passes in a loop. `stopped(seconds)` waits that long and returns whether to stop."""
        while True:
            changed = self.run_once()
            if stopped(0.0 if changed >= MAX_ROWS_PER_PASS else self._limits.scheduler_interval_seconds):
                self._record_stop()
                run_stop_hooks()
                return

    def run_once(self) -> int:
        """Make one pass over everything that is due, and return how many rows changed."""
        try:
            now = database_now()
            self._clock.detect_suspension()
            self._clock.detect_step(now)
            changed = sum(self._attempt(Job(job.__name__), "", partial(job, now)) for job in self.jobs)
        except DatabaseError as error:
            if not is_unavailable(error):
                raise
            connection.close()
            self._outage.record_failure(error)
            self._clock.postpone_expiry()
            return 0
        self._outage.record_success()
        return changed

    def record_heartbeat(self, now: datetime) -> int:
        """Record a heartbeat of the scheduler if one is due."""
        if time.monotonic() - self._heartbeat_at >= HEARTBEAT_SECONDS:
            services.record_scheduler_heartbeat(alive=True, stuck_jobs=self._failures.stuck_jobs())
            self._heartbeat_at = time.monotonic()
        return 0

    def publish_pool_metrics(self, now: datetime) -> int:
        """Publish the pool metrics that were throttled."""
        since = now - timedelta(seconds=self._limits.pool_status_interval_seconds)
        return self._attempt_each(
            Job.PUBLISH_POOL_METRICS, due_select.DIRTY_POOLS, since, services.publish_pool_metrics
        )

    def publish_map_progress(self, now: datetime) -> int:
        """Publish the counts of items that were throttled."""
        since = now - timedelta(seconds=self._limits.progress_interval_seconds)
        return self._attempt_each(Job.PUBLISH_MAP_PROGRESS, due_select.DIRTY_MAPS, since, services.publish_map_progress)

    def expire_waits(self, now: datetime) -> int:
        """End the waits whose time is over."""
        expire = partial(services.expire_wait, due_before=now)
        return self._attempt_each(Job.EXPIRE_WAITS, due_select.DUE_WAITS, now, expire)

    def queue_retries(self, now: datetime) -> int:
        """Queue the stages whose retry is due."""
        queue = partial(services.queue_retry, due_before=now)
        return self._attempt_each(Job.QUEUE_RETRIES, due_select.DUE_RETRIES, now, queue)

    def hold_unclaimed(self, now: datetime) -> int:
        """Hold the runs with unclaimed stages in pools that have no worker."""
        holds = Holds()
        held = self._attempt_each(Job.HOLD_UNCLAIMED, due_select.RUNS_TO_HOLD, now, holds.hold_run)
        holds.log()
        return held

    def redispatch(self, now: datetime) -> int:
        """Redispatch unclaimed stages whose messages the broker no longer holds."""
        found: dict[str, list[Stage]] = {}
        set_aside = self._failures.set_aside(Job.REDISPATCH)
        for stage in self._sweep(Job.REDISPATCH, due_select.UNCLAIMED_STAGES).next_page(now, without=()):
            found.setdefault(stage.pool_id or "", []).append(stage)
        return sum(
            self._attempt(Job.REDISPATCH, pool_id, partial(redispatch, pool_id, stages, now))
            for pool_id, stages in found.items()
            if pool_id not in set_aside
        )

    def end_holds(self, now: datetime) -> int:
        """End the holds of runs that a worker may take."""
        return self._attempt_each(Job.END_HOLDS, due_select.OUTDATED_HOLDS, now, services.end_outdated_hold)

    def dispatch_refused(self, now: datetime) -> int:
        """Dispatch again the stages that workers have refused."""
        page = self._sweep(Job.DISPATCH_REFUSED, due_select.REFUSED_STAGES).next_page(now, without=())
        return services.dispatch_refused([stage.pk for stage in page], now=now) if page else 0

    def refill_windows(self, now: datetime) -> int:
        """Dispatch the next stages of wide runs of which the broker holds fewer messages than their pool has slots."""
        return self._attempt_each(Job.REFILL_WINDOWS, due_select.SMALL_WINDOWS, now, services.refill_window)

    def time_out_workflows(self, now: datetime) -> int:
        """Time out the workflows whose deadline has passed."""
        return self._attempt_each(Job.TIME_OUT_WORKFLOWS, due_select.LATE_WORKFLOWS, now, time_out)

    def cancel_sub_runs(self, now: datetime) -> int:
        """Cancel the sub-runs of runs that have ended otherwise than completed."""
        return self._attempt_each(Job.CANCEL_SUB_RUNS, due_select.SUB_RUNS_TO_CANCEL, now, services.cancel_sub_run)

    def end_cancellations(self, now: datetime) -> int:
        """Note which of these runs have no sub-runs to cancel any longer."""
        return self._attempt_each(
            Job.END_CANCELLATIONS, due_select.RUNS_WITH_CANCELLATION, now, services.end_cancellation
        )

    def expire_leases(self, now: datetime) -> int:
        """End the attempts whose lease has expired."""
        if not self._clock.may_expire():
            return 0
        expire = partial(services.expire_lease, expired_before=now)
        return self._attempt_each(
            Job.EXPIRE_LEASES, due_select.EXPIRED_LEASES, now, expire, except_for=self._locked_stages
        )

    def expire_workers(self, now: datetime) -> int:
        """Mark workers without recent heartbeats offline."""
        if not self._clock.may_expire():
            return 0
        since = now - timedelta(seconds=self._limits.worker_timeout_seconds)
        expire = partial(services.expire_worker, no_heartbeat_since=since)
        return self._attempt_each(
            Job.EXPIRE_WORKERS, due_select.SILENT_WORKERS, since, expire, except_for=self._locked_workers
        )

    def continue_stalled_runs(self, now: datetime) -> int:
        """Continue the runs for which nothing is going to happen."""
        if time.monotonic() < self._stalled_runs_due_at:
            return 0
        self._stalled_runs_due_at = time.monotonic() + STALLED_RUNS_INTERVAL_SECONDS
        return self._attempt_each(Job.CONTINUE_STALLED_RUNS, due_select.STALLED_RUNS, now, continue_stalled_run)

    def prune_runs(self, now: datetime) -> int:
        """Delete a block of the finished runs that need not be kept."""
        return self._run_pruning.prune_block()

    def prune_workers(self, now: datetime) -> int:
        """Remove a block of the workers that have been offline for long."""
        return self._worker_pruning.prune_block()

    def _attempt_each(
        self,
        job: Job,
        select: RowSelect[Any],
        due_at: datetime,
        change: Callable[[Any], int],
        *,
        except_for: LockedRows | None = None,
    ) -> int:
        """Call `change` with the primary key of each row of a page that is due, and return how many rows changed."""
        changed, lock_waits = 0, self._lock_waits
        sweep = self._sweep(job, select)
        page = sweep.next_page(due_at, without=self._failures.set_aside(job))
        for row in page if except_for is None else except_for.exclude_from(page):
            changed += self._attempt(job, row.pk, partial(change, row.pk))
            if self._lock_waits - lock_waits >= MAX_LOCK_WAITS_PER_JOB:
                sweep.continue_after(row, due_at)
                break
        return changed

    def _sweep(self, job: Job, select: RowSelect[Any]) -> Sweep[Any]:
        return self._sweeps.setdefault(job, Sweep(select))

    def _attempt(self, job: Job, pk: object, change: Callable[[], int]) -> int:
        """Return the result of `change` for a row, or for the whole job if `pk` is empty; 0 if it fails.

        Raises:
            django.db.Error: if the database is unavailable.
        """
        try:
            changed = change()
        except Exception as error:
            if is_unavailable(error) and not is_contended(error):
                raise
            self._lock_waits += is_contended(error)
            self._failures.add(job, pk, error)
            return 0
        finally:
            self._clock.record_activity()
        self._failures.discard(job, pk)
        return changed

    def _record_stop(self) -> None:
        try:
            services.record_scheduler_heartbeat(alive=False)
        except DatabaseError as error:
            # Without this record, the last heartbeat expires soon.
            if not is_unavailable(error):
                raise
