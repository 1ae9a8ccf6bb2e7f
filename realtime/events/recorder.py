"""Record the events of one's own changes: their positions in the log, and who reported them.

A program that changes something over the HTTP API gets the `seq` of its event, and so knows when it has seen its act.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from orchestration.reporter import reporting_as


class RecordedEvent(NamedTuple):
    """An event that is in the log."""

    name: str
    seq: int


@dataclass(slots=True)
class Recorded:
    """The events of the changes of one block.

    Attributes:
        written: The events that are in the log if the current transaction commits, in order.
        epoch: The epoch of the log, once it has one of these events.
        announced: How many events were announced.
        extra_event, extra: Fields that events of this name get besides their own.
        events: The events of the transactions that have committed, in order.
    """

    events: list[RecordedEvent] = field(default_factory=list)
    written: list[RecordedEvent] = field(default_factory=list)
    epoch: str = ""
    announced: int = 0
    extra_event: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


_current: ContextVar[Recorded | None] = ContextVar("recorded_events", default=None)


@contextmanager
def record_events(reported_by: str = "") -> Iterator[Recorded]:
    """Record the events that this block announces in this thread.

    If `reported_by` is not empty, it is added to their data, and the rows that the block makes have it too.

    The transactions of the block must be committed inside of it: a call of a service is one transaction.
    """
    recorded = Recorded()
    token = _current.set(recorded)
    try:
        with reporting_as(reported_by):
            yield recorded
    finally:
        _current.reset(token)


def current_record() -> Recorded | None:
    """Return the record of the current block, if any."""
    return _current.get()
