"""What the observer reports, and what it continues with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from orchestration.reporter import is_plausible_time
from orchestration.services.report_types import Report

REPORTED_BY: Final = "celery"
"""Who reports observed workflows, workers and pools, and the adapter of these workflows."""

MAX_FUTURE: Final = timedelta(seconds=1)
"""How far the clock of a worker may be ahead. Its events arrive at once, so beyond that their arrival is more exact."""


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A stage of an unfinished workflow that an earlier observer reported: what a restart continues with."""

    workflow_id: str
    stage: str
    status: str
    retries: int = 0
    error: str = ""


class ReportSink(Protocol):
    """Stores reports."""

    def __call__(self, reports: Sequence[Report], /) -> int:
        """Store reports in order, and return how many were rejected. A repeated report changes nothing."""


@dataclass(slots=True)
class ReportLog:
    """The reports of the events since the last call of `take`."""

    reports: list[Report] = field(default_factory=list)

    def add(self, report: Report) -> None:
        """Add one report."""
        self.reports.append(report)

    def take(self) -> list[Report]:
        """Return and remove all reports."""
        taken, self.reports = self.reports, []
        return taken


def event_time(timestamp: float | None, *, now: datetime) -> datetime:
    """Return the time of an event: that of its sender, if it is plausible, else `now`."""
    if timestamp is None:
        return now
    try:
        sent_at = datetime.fromtimestamp(timestamp, tz=now.tzinfo)
    except (ValueError, OverflowError, OSError):
        return now
    return sent_at if is_plausible_time(sent_at, now=now, max_future=MAX_FUTURE) else now
