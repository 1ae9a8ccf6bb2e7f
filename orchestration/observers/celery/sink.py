"""Store the reports of an observer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from django.db import IntegrityError

from orchestration import services
from orchestration.db.retry import retry_while_unavailable
from orchestration.log_throttle import LogThrottle
from orchestration.observers.celery.reports import REPORTED_BY
from orchestration.reporter import reporting_as
from orchestration.services.report_types import Report, RunReport, StageReport
from orchestration.services.reports import Outcome, apply_reports

logger = logging.getLogger(__name__)

MAX_REPORTS_PER_TRANSACTION: Final = 200
"""Other writers wait for a transaction."""

MAX_ATTEMPTS: Final = 10
"""How often a transaction is tried while others insert the same rows, or close a pool, at the same moment."""

_WORKER_OF_OTHERS: Final = (services.WorkerNotFound, services.WorkerInOtherPool, services.EngineWorker)

_rejected = LogThrottle(logger)


class ServiceSink:
    """Stores reports in transactions of a bounded size, and waits while the database is unavailable.

    Args:
        is_stopping: Whether to give no further attempt to an unavailable database.
    """

    def __init__(self, *, is_stopping: Callable[[], bool] = lambda: False) -> None:
        self._is_stopping = is_stopping

    def __call__(self, reports: Sequence[Report], /) -> int:
        """Store reports in order, and return how many were rejected. A repeated report changes nothing."""
        rejected = 0
        for start in range(0, len(reports), MAX_REPORTS_PER_TRANSACTION):
            batch = reports[start : start + MAX_REPORTS_PER_TRANSACTION]
            outcomes = retry_while_unavailable(
                partial(_store, batch), timeout_seconds=None, is_expired=self._is_stopping
            )
            for report, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, services.ServiceError):
                    rejected += 1
                    _rejected.log("Report %s of an observed application rejected: %s", type(report).__name__, outcome)
        return rejected


def _store(batch: Sequence[Report]) -> list[Outcome]:
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            with reporting_as(REPORTED_BY):
                return apply_reports(
                    batch,
                    all_or_nothing=False,
                    # Who can send events to the broker can choose the id of any run and worker.
                    may_change=lambda reported_by: reported_by == REPORTED_BY,
                    instead=_instead,
                )
        except (IntegrityError, services.PoolNotAccepting):
            if attempt == MAX_ATTEMPTS:
                raise
    raise AssertionError


def _instead(report: Report, error: services.ServiceError) -> Report | None:
    """Return what can be shown of a change that has happened elsewhere, whether or not it is allowed here."""
    if isinstance(report, RunReport) and isinstance(error, services.PoolNotAccepting):
        # What runs elsewhere does not stop because an operator has drained the pool here.
        return replace(report, pool_id=None)
    if isinstance(report, StageReport) and isinstance(error, _WORKER_OF_OTHERS):
        # Its queue is that of another pool than the one in which its worker is shown.
        return replace(report, worker_id=None)
    return None
