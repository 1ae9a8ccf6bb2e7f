"""Who reports the changes that are made now: the name of an orchestrator elsewhere; empty for this installation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

MAX_REPORTER_LENGTH: Final = 128

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
