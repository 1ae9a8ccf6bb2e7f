"""Read the history of a channel page by page, for `list_events`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from realtime.database import consistent_read
from realtime.eventlog.position import Position, current_position
from realtime.eventlog.reader import read_listed
from realtime.limits import Limits
from realtime.protocol.channels import GLOBAL, SUMMARY
from realtime.protocol.list_messages import ListedEvent
from realtime.protocol.messages import EventRecord
from realtime.protocol.payload import encode_data, raw_json, size_in_bytes
from realtime.protocol.summary import LEFT_OUT, summarize
from realtime.queries.examined_windows import Condition, Found, Window, all_of, search
from realtime.queries.pages import EXAMINED_ROW_BYTES

MAX_EXAMINED_EVENTS: Final = 5000
"""Events that one page examines at most, if few of them have the requested names."""

_EVENTS: Final = "realtime_event"
_ROOMS: Final = "realtime_eventroom"


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events of a channel.

    Attributes:
        position: Position of the log when they were read.
        events: JSON text of an array, in the order of the positions.
        next_seq: The position behind which the next page begins, in the direction of the page; None after the last.
        cost_bytes: What the budget of a connection is charged for, as for a `Page`.
    """

    position: Position
    events: str
    next_seq: int | None
    cost_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """A page of the events of a channel: the oldest ones above `after` or, if that is None, the newest ones.

    Attributes:
        channel: The channel.
        before: Only events below this position.
        after: Only events above this position.
        names: Only events with one of these names; any, if there are none.
        limit: The most events of the page.
    """

    channel: str
    before: int | None
    after: int | None
    names: tuple[str, ...]
    limit: int

    @property
    def is_first(self) -> bool:
        return self.before is None and self.after is None

    def read(self, limits: Limits) -> EventPage:
        """Return the page, in one consistent read.

        It has at most `limit` events and about `replay_chunk_bytes` bytes, but at least one event if one is found among
        the next `MAX_EXAMINED_EVENTS`. So a page may be empty, and not be the last.
        """
        newest_first = self.after is None
        with consistent_read():
            position = current_position()
            found = self._search(trimmed_seq=position.trimmed_seq)
            seqs = [seq for (seq,) in found.keys]
            events = read_listed(seqs, newest_first=newest_first, max_bytes=limits.replay_chunk_bytes)
        next_seq = None if found.resume_after is None else found.resume_after[0]
        if len(events) < len(seqs):
            next_seq = events[-1].seq
        read_bytes = sum(size_in_bytes(event.data) for event in events)
        if self.channel == SUMMARY:
            # The query has left out what `summary` does not carry.
            events = [summarized for event in events if (summarized := summarize(event)) is not None]
        text = encode_data([_listed(event) for event in (reversed(events) if newest_first else events)])
        return EventPage(
            position=position,
            events=text,
            next_seq=next_seq,
            cost_bytes=max(size_in_bytes(text), read_bytes) + EXAMINED_ROW_BYTES * found.examined,
        )

    def _search(self, *, trimmed_seq: int) -> Found:
        conditions = [Condition("room = %s", (self.channel,))] if self._has_rows else []
        if self.before is not None:
            conditions.append(Condition("seq < %s", (self.before,)))
        # A log that was replaced may still have events of the one before, up to `trimmed_seq`.
        conditions.append(Condition("seq > %s", (max(self.after or 0, trimmed_seq),)))
        condition = all_of(conditions)
        matches = self._has_name()
        return search(
            [Window(f"{_ROOMS if self._has_rows else _EVENTS} WHERE {condition.sql}", condition.values)],
            columns=("seq",),
            order=f"seq {'DESC' if self.after is None else 'ASC'}",
            matches=matches,
            size=MAX_EXAMINED_EVENTS if matches.values else self.limit + 1,
            limit=self.limit,
        )

    @property
    def _has_rows(self) -> bool:
        """Whether the table of rooms lists the events of the channel."""
        return self.channel not in (GLOBAL, SUMMARY)

    def _has_name(self) -> Condition:
        # A join could read the whole log: Postgres may expect it to be quicker than so many events one by one.
        name = f"(SELECT name FROM {_EVENTS} AS event WHERE event.seq = {_ROOMS}.seq)" if self._has_rows else "name"
        conditions = [Condition(f"{name} IN ({_placeholders(self.names)})", self.names)] if self.names else []
        if self.channel == SUMMARY:
            conditions.append(Condition(f"{name} NOT IN ({_placeholders(LEFT_OUT)})", LEFT_OUT))
        return all_of(conditions)


def _placeholders(values: tuple[str, ...]) -> str:
    return ", ".join(["%s"] * len(values))


def _listed(event: EventRecord) -> ListedEvent:
    data = raw_json(event.data)
    return ListedEvent(id=event.id, event=event.name, data=data, timestamp=event.timestamp, seq=event.seq)
