"""Follow channels from a command: read their events from the log, in order and without gaps.

The log has all events, even without a running server. So a restart of the server does not matter to a command.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from realtime.eventlog.position import Position, current_position
from realtime.eventlog.reader import PositionOutOfRange, read_events
from realtime.models import Event
from realtime.protocol.channels import SUMMARY
from realtime.protocol.messages import EventRecord
from realtime.protocol.summary import summarize

_EVENTS_PER_QUERY: Final = 500
_BYTES_PER_QUERY: Final = 1024 * 1024


class Delivery(NamedTuple):
    """One event in one channel."""

    channel: str
    event: EventRecord


class LogFollower:
    """Reads the events of channels. It holds at most one chunk of 1 MiB for each channel.

    Args:
        channels: The channels.
        begin_after: Returns the position after which to begin, given that of the log at the first poll.
        report_gap: Receives a sentence if events cannot be read.
    """

    def __init__(
        self,
        channels: Sequence[str],
        *,
        begin_after: Callable[[Position], int] = lambda position: position.seq,
        report_gap: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._channels = channels
        self._begin_after = begin_after
        self._report_gap = report_gap
        self._epoch = ""
        self._read_through: dict[str, int] = {}

    @property
    def read_through(self) -> int:
        """Position up to which every channel is read."""
        return min(self._read_through.values(), default=0)

    def poll(self) -> Iterator[Delivery]:
        """Yield the events since the last poll, in the order of the log. After an error, a poll continues there."""
        position = current_position()
        if position.epoch != self._epoch:
            if self._epoch:
                self._report_gap(f"The log was replaced after seq {self.read_through}; continuing with the new log.")
            begin = position.trimmed_seq if self._epoch else self._begin_after(position)
            self._epoch = position.epoch
            self._read_through = dict.fromkeys(self._channels, begin)
        streams = [self._read(channel, through=position.seq) for channel in self._channels]
        for delivery in heapq.merge(*streams, key=lambda delivery: delivery.event.seq):
            # Set first: the caller may not ask for another event.
            self._read_through[delivery.channel] = delivery.event.seq
            yield delivery

    def _read(self, channel: str, *, through: int) -> Iterator[Delivery]:
        """Yield the events of one channel up to `through`. An event is asked for when the one before is delivered."""
        while True:
            after = self._read_through[channel]
            try:
                batch = read_events(
                    channel,
                    epoch=self._epoch,
                    after=after,
                    through=through,
                    limit=_EVENTS_PER_QUERY,
                    max_bytes=_BYTES_PER_QUERY,
                )
            except PositionOutOfRange as error:
                if error.trimmed_seq <= after:
                    return  # The epoch has changed; the next poll starts from the new one.
                self._read_through[channel] = error.trimmed_seq
                self._report_gap(
                    f"Events of {channel} after seq {after} are pruned up to seq {error.trimmed_seq}: they are missing."
                )
                continue
            for event in batch.events:
                shown = summarize(event) if channel == SUMMARY else event
                if shown is not None:
                    yield Delivery(channel, shown)
            if batch.is_last:
                self._read_through[channel] = max(self._read_through[channel], through)
                return


def position_before(time: datetime, position: Position) -> int:
    """Return the position after which the events since `time` lie. Takes about 20 queries: seq follows the time."""
    low, high = position.trimmed_seq, position.seq
    while low < high:
        middle = (low + high) // 2
        found = Event.objects.filter(seq__gt=middle).order_by("seq").values_list("timestamp", flat=True).first()
        if found is None or found >= time:
            high = middle
        else:
            low = middle + 1
    return low
