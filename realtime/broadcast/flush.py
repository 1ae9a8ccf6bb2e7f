"""The last step of the relay: events delivered in one turn of the event loop are written together."""

from __future__ import annotations

import asyncio
from time import time

from realtime.broadcast.room import Room, Subscriber
from realtime.limits import Limits
from realtime.protocol.channels import SUMMARY
from realtime.protocol.frames import Frames, build_frames
from realtime.protocol.summary import summarize_message


class WriteCoalescer:
    """Writes the events of one process's rooms to their subscribers, coalesced per turn of the event loop.

    Attributes:
        delivered_seq: Highest position delivered so far.
        delivered_events: Number of events delivered so far. An event counts once for each room that delivers it.
        large_events: How many of those had a message of more than `large_event_data_bytes`.
        lag_ms: Age of the last event when it was delivered, in milliseconds.
    """

    def __init__(self, limits: Limits) -> None:
        self.delivered_seq = 0
        self.delivered_events = 0
        self.large_events = 0
        self.lag_ms = 0.0
        self._large_bytes = limits.large_event_data_bytes
        self._dirty: list[Room] = []

    def deliver(self, room: Room, seq: int, timestamp: float, message: bytes) -> None:
        """Queue one event of a room. The events of one turn of the loop are written together at its end.

        Args:
            room: The room; its position becomes `seq`.
            seq: Position of the event.
            timestamp: When the event happened, as Unix time in seconds.
            message: The encoded message. For `summary` it is that of `global`, and reduced here.
        """
        if room.ahead:
            room.activate_caught_up(seq)
        room.seq = seq
        if seq > self.delivered_seq:
            self.delivered_seq = seq
        if room.channel == SUMMARY:
            reduced = summarize_message(message)
            if reduced is None:
                return
            message = reduced
        self.delivered_events += 1
        self.lag_ms = (time() - timestamp) * 1000
        if len(message) > self._large_bytes:
            self.large_events += 1
        if not room.outgoing:
            if not self._dirty:
                asyncio.get_running_loop().call_soon(self.flush)
            self._dirty.append(room)
        room.outgoing.append(message)

    def flush(self) -> None:
        """Write all events that are delivered and not written yet."""
        dirty, self._dirty = self._dirty, []
        _flush_together(dirty)


def _flush_together(rooms: list[Room]) -> None:
    """Write the events of all rooms together for each subscriber. Subscribers of the same rooms share the frames."""
    if len(rooms) == 1:
        rooms[0].flush()
        return
    shares: dict[Subscriber, tuple[Frames, ...]] = {}
    for room in rooms:
        if room.outgoing:
            frames, room.outgoing = Frames(room.outgoing), []
            for subscriber in room.live:
                shares[subscriber] = (*shares.get(subscriber, ()), frames)
    joined: dict[tuple[Frames, ...], list[Frames]] = {}
    for subscriber, share in shares.items():
        if share not in joined:
            joined[share] = build_frames([message for frames in share for message in frames.messages])
        for frames in joined[share]:
            subscriber.write(frames)
