"""The last step of the relay: what may be delivered is gathered for one turn of the event loop, and leaves together."""

from __future__ import annotations

import asyncio
from time import time

from realtime.broadcast.room import Room, Subscriber
from realtime.limits import Limits
from realtime.protocol.frames import Frames, build_frames


class WriteCoalescer:
    """What is on its way from the rooms of one process to their subscribers.

    Attributes:
        delivered_events: How many events were handed out so far.
        large_events: How many of those had more than `large_event_data_bytes`.
        lag_ms: How long after it happened the last event was handed out.
    """

    def __init__(self, limits: Limits) -> None:
        self.delivered_events = 0
        self.large_events = 0
        self.lag_ms = 0.0
        self._large_bytes = limits.large_event_data_bytes
        self._dirty: list[Room] = []

    def deliver(self, room: Room, seq: int, timestamp: float, message: bytes) -> None:
        """Queue one event for the end of this turn of the loop: what comes in one turn leaves in one write."""
        if room.ahead:
            room.activate_caught_up(seq)
        room.seq = seq
        self.delivered_events += 1
        self.lag_ms = (time() - timestamp) * 1000
        if len(message) > self._large_bytes:
            self.large_events += 1
        if not room.outgoing:
            if not self._dirty:
                asyncio.get_running_loop().call_soon(self._flush)
            self._dirty.append(room)
        room.outgoing.append(message)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        _flush_together(dirty)


def _flush_together(rooms: list[Room]) -> None:
    """Give a subscriber of several of the rooms all of it in one write, built once for all who share the rooms."""
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
