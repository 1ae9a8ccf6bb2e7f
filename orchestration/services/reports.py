"""Apply the reports of an orchestrator elsewhere: many in one transaction, with few statements.

The rows of all reports are locked and read first. Each report then changes them in memory, through the same functions
as every other change, and sends the same signals. The rows are written at the end, each once, and so are the counters
of pools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import groupby

from django.db import transaction
from django.utils import timezone

from orchestration.models import PoolStatus
from orchestration.models.pool_counters import batched_counters
from orchestration.models.unit_of_work import unit_of_work
from orchestration.services.errors import ServiceError
from orchestration.services.pools import reject_closed_pool
from orchestration.services.report_rows import lock_rows
from orchestration.services.report_rules import Rules
from orchestration.services.report_types import Notice, PoolReport, Report, WorkerRemoval

Outcome = bool | ServiceError
"""Whether a report changed something, or why it was refused."""


class ReportRefused(Exception):
    """One of the reports was refused, and so none was applied.

    Attributes:
        index: Which of them.
        error: Why.
    """

    def __init__(self, index: int, error: ServiceError) -> None:
        super().__init__(f"Report {index}: {error}")
        self.index = index
        self.error = error


def apply_reports(
    reports: Sequence[Report],
    *,
    all_or_nothing: bool = True,
    may_create: Callable[[str], bool] = lambda pool_id: True,
    may_change: Callable[[str], bool] = lambda reported_by: True,
    instead: Callable[[Report, ServiceError], Report | None] = lambda report, error: None,
    around: Callable[[int, Callable[[], bool]], bool] = lambda index, apply: apply(),
) -> list[Outcome]:
    """Apply reports in their order, in one transaction; return the outcome of each.

    Who reports them is set by `orchestration.reporter.reporting_as`.

    Args:
        reports: The reports.
        all_or_nothing: Whether one that is refused ends the transaction. Otherwise only that one is left out.
        may_create: Whether the reporter may create the pool of an id, and workers in it. Only then may it put runs
            into that pool if it belongs to this installation: they change its counters.
        may_change: Whether the reporter may change the runs, workers and pools that the reporter of this name has
            reported.
        instead: Returns what is applied instead of a report that is refused; None if it stays refused. It is about the
            same run, stage, worker or pool.
        around: Called with the index of each report, and with the function that applies it.

    Raises:
        ReportRefused: if one was refused, and it is all or nothing.
        PoolNotAccepting: if a pool was closed at this moment. A second call finds it closed.
        IntegrityError: if one of the new rows was inserted at this moment. A second call finds it.
    """
    outcomes: list[Outcome] = []
    with reject_closed_pool("stages"), transaction.atomic():
        rules = Rules(lock_rows(reports, may_change), may_create)

        def apply_one(report: Report) -> bool:
            try:
                return rules.apply(report)
            except ServiceError as error:
                other = instead(report, error)
                if other is None:
                    raise
            return rules.apply(other)

        def apply(index: int) -> None:
            try:
                outcomes.append(around(index, lambda: apply_one(reports[index])))
            except ServiceError as error:
                if all_or_nothing:
                    raise ReportRefused(index, error) from error
                outcomes.append(error)

        for is_alone, indexes in _parts(reports):
            if is_alone:
                for index in indexes:
                    apply(index)
                continue
            with batched_counters(at=_last_time(reports, indexes)), unit_of_work(rules.stages):
                for index in indexes:
                    apply(index)
    return outcomes


def _parts(reports: Sequence[Report]) -> Iterator[tuple[bool, list[int]]]:
    """Divide reports into parts: those that need the rows of the parts before them to be written are alone."""
    for is_alone, indexes in groupby(range(len(reports)), key=lambda index: _needs_stored_rows(reports[index])):
        yield is_alone, list(indexes)


def _needs_stored_rows(report: Report) -> bool:
    is_closing = isinstance(report, PoolReport) and report.status == PoolStatus.CLOSED
    return is_closing or isinstance(report, WorkerRemoval)


def _last_time(reports: Sequence[Report], indexes: Sequence[int]) -> datetime:
    times = [report.at for report in map(reports.__getitem__, indexes) if not isinstance(report, Notice)]
    return max(times) if times else timezone.now()
