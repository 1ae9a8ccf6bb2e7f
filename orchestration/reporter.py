"""Who reports the changes that are made now, and when they may have happened.

The name of an orchestrator elsewhere; empty for this installation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Final

MAX_REPORTER_LENGTH: Final = 128

MAX_PAST: Final = timedelta(days=7)
"""How far a change may be in the past when it is reported: reports are kept while they cannot be delivered."""

MAX_FUTURE: Final = timedelta(seconds=60)
"""How far the clock of a reporter may be ahead."""

_reporter: ContextVar[str] = ContextVar("reporter", default="")


def current_reporter() -> str:
    """Return who reports the changes of this block; empty if this installation makes them itself."""
    return _reporter.get()


@contextmanager
def reporting_as(reporter: str) -> Iterator[None]:
    """Store `reporter` with the rows that this block makes: runs, pools and workers."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)


def is_plausible_time(at: datetime, *, now: datetime, max_future: timedelta = MAX_FUTURE) -> bool:
    """Check whether a change that is reported now may have happened then. Otherwise the time of its report counts."""
    return now - MAX_PAST <= at <= now + max_future
