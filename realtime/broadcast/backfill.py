"""Read the event log to fill gaps: events that the channel layer lost, or that arrive late.

A gap before a received event is filled at once. If the last event of a room is lost, no later event shows the gap. The
relay finds it when it compares the newest rows of the log with its rooms, twice a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from realtime.broadcast.flush import WriteCoalescer
from realtime.broadcast.room import Room
from realtime.database import in_relay_thread
from realtime.eventlog.position import Position, current_position
from realtime.eventlog.reader import PositionOutOfRange, newest_seq_by_room, read_events, read_events_with_rooms
from realtime.protocol.channels import GLOBAL, channels_from, source_of
from realtime.protocol.messages import EventRecord, encode_event
from realtime.protocol.requests import MAX_SEQ

BACKFILL_CHUNK_EVENTS = 500
"""Events in one read of the log, if they take fewer bytes than `BACKFILL_CHUNK_BYTES`."""

BACKFILL_CHUNK_BYTES = 1024 * 1024
"""Bytes in one read of the log; one event may be larger. Subscribers share them."""


class Backfill:
    """Fills the rooms of one relay from the event log.

    Args:
        rooms: The open rooms by channel, shared with the relay.
        coalescer: Delivers the events that are read.
        deliver_buffered: Called with a room after its gap is filled.
        on_out_of_range: Called with the rooms that cannot be filled, and the reason.
        spawn: Starts a background task with a name.

    Attributes:
        position: Every room is complete up to this position of the log. None before the relay has started.
    """

    def __init__(
        self,
        rooms: dict[str, Room],
        coalescer: WriteCoalescer,
        *,
        deliver_buffered: Callable[[Room], None],
        on_out_of_range: Callable[[list[Room], PositionOutOfRange], None],
        spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
    ) -> None:
        self.position: Position | None = None
        self._rooms = rooms
        self._coalescer = coalescer
        self._deliver_buffered = deliver_buffered
        self._on_out_of_range = on_out_of_range
        self._spawn = spawn

    @property
    def known_position(self) -> Position:
        """The position, once the relay has started."""
        assert self.position is not None, "Relay.start() has read it"
        return self.position

    def start(self, room: Room) -> asyncio.Task[None]:
        """Start to fill a room from the log, unless a backfill is running; return its task."""
        if isinstance(room.backfill, asyncio.Task):
            return room.backfill
        if room.backfill is not None:
            room.backfill.cancel()
        room.backfill = self._spawn(self._fill(room), f"backfill {room.channel}")
        return room.backfill

    async def _fill(self, room: Room) -> None:
        try:
            while self._rooms.get(room.channel) is room:
                known = self.known_position
                batch = await in_relay_thread(
                    read_events,
                    source_of(room.channel),
                    epoch=known.epoch,
                    after=max(room.seq, known.seq),
                    through=MAX_SEQ,
                    limit=BACKFILL_CHUNK_EVENTS,
                    max_bytes=BACKFILL_CHUNK_BYTES,
                )
                for event in batch.events:
                    if event.seq > room.seq:
                        self._deliver(room, event)
                if batch.is_last:
                    break
        except PositionOutOfRange as error:
            self._on_out_of_range([room], error)
        finally:
            room.backfill = None
        # Each buffered event has been read from the log, or follows the events read: the log shows commits in order.
        self._deliver_buffered(room)

    async def compare_with_log(self) -> None:
        """Deliver the events that are in the log and did not arrive through the channel layer.

        Raises:
            django.db.Error: if the database is unavailable. The next comparison starts at the same position.
        """
        known = self.known_position
        delivered_seq = self._coalescer.delivered_seq
        found, newest = await in_relay_thread(_position_and_newest, known.seq)
        if found.epoch != known.epoch or found.seq < max(known.seq, delivered_seq) or found.trimmed_seq > known.seq:
            # Events are published after their commit: one above the log is not in it.
            self._coalescer.delivered_seq = 0
            self.position = found
            self._on_out_of_range(list(self._rooms.values()), PositionOutOfRange(known.seq, found.trimmed_seq))
            return
        newest |= dict.fromkeys(channels_from(GLOBAL), found.seq)
        behind = {
            channel: room
            for channel, seq in newest.items()
            if (room := self._rooms.get(channel)) is not None and -1 < room.seq < seq
        }
        if len(behind) * BACKFILL_CHUNK_EVENTS > found.seq - known.seq + BACKFILL_CHUNK_EVENTS:
            # Filling them separately would take more queries.
            await self._fill_together(behind, known)
        else:
            await asyncio.gather(*(self._fill_to(room, newest[channel]) for channel, room in behind.items()))
        self.position = found

    async def _fill_together(self, rooms: dict[str, Room], known: Position) -> None:
        """Fill all these rooms with the events of the log above `known`."""
        after, is_more = known.seq, True
        while is_more:
            batch, rooms_of = await in_relay_thread(
                read_events_with_rooms,
                epoch=known.epoch,
                after=after,
                limit=BACKFILL_CHUNK_EVENTS,
                max_bytes=BACKFILL_CHUNK_BYTES,
            )
            for event in batch.events:
                for channel in (*rooms_of[event.seq], *channels_from(GLOBAL)):
                    room = rooms.get(channel)
                    if room is not None and event.seq > room.seq:
                        self._deliver(room, event)
                after = event.seq
            is_more = not batch.is_last
        for room in rooms.values():
            self._deliver_buffered(room)

    async def _fill_to(self, room: Room, seq: int) -> None:
        # A running backfill may have read the log too early. A second backfill reads it late enough.
        for _ in range(2):
            if room.seq < seq:
                await self.start(room)

    def _deliver(self, room: Room, event: EventRecord) -> None:
        message = encode_event(event, room=source_of(room.channel))
        self._coalescer.deliver(room, event.seq, event.timestamp.timestamp(), message)


def _position_and_newest(after: int) -> tuple[Position, dict[str, int]]:
    """Read the log's position, then each room's newest event, so that the second read covers at least that position."""
    found = current_position()
    return found, newest_seq_by_room(after=after) if found.seq > after else {}
