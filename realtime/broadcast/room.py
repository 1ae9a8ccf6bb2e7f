"""One channel that somebody here subscribes to, as the relay keeps it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from realtime.broadcast.message import Entry, group_name
from realtime.protocol.frames import Frames, build_frames


class Subscriber(Protocol):
    """A connection, as the relay sees it."""

    def write(self, frames: Frames) -> None:
        """Send these now or as soon as possible; never wait and never raise."""

    def on_log_reset(self) -> None:
        """What this connection was promised can no longer be kept: let it start over."""


class Room:
    """Who subscribes to a channel, and what they have been given.

    Attributes:
        group: The layer group that carries its events.
        seq: Live subscribers have been given every event of the room up to here.
        members: All subscribers, of which `live` are given events as they come. One that is in `early` has been given
            more than the room has yet (it read the log itself) and is given only what lies above its number.
        held: Events from the bus that came before the hole in front of them was filled, by seq.
        outgoing: Messages that leave at the end of this turn of the loop.
    """

    __slots__ = (
        "ahead",
        "backfill",
        "channel",
        "group",
        "live",
        "members",
        "opening",
        "outgoing",
        "reorder_buffer",
        "seq",
    )

    def __init__(self, channel: str, *, epoch: str) -> None:
        self.channel = channel
        self.group = group_name(channel, epoch=epoch)
        self.seq = -1
        self.members: set[Subscriber] = set()
        self.live: dict[Subscriber, None] = {}
        self.ahead: dict[Subscriber, int] = {}
        self.reorder_buffer: dict[int, Entry] = {}
        self.outgoing: list[bytes] = []
        self.opening: asyncio.Task[None] | None = None
        self.backfill: asyncio.Task[None] | asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        return self.seq >= 0

    def activate(self, subscriber: Subscriber, *, after: int) -> bool:
        """Give a member every event above `after` from now on; False if the room is already past it."""
        if after < self.seq:
            return False
        if after > self.seq:
            self.ahead[subscriber] = after
        else:
            self.flush()
            self.live[subscriber] = None
        return True

    def pause(self, subscriber: Subscriber) -> None:
        """Give a member no events until it goes live again; its membership goes on."""
        self.flush()
        self.live.pop(subscriber, None)
        self.ahead.pop(subscriber, None)

    def remove(self, subscriber: Subscriber) -> None:
        """End a membership."""
        self.members.discard(subscriber)
        self.live.pop(subscriber, None)
        self.ahead.pop(subscriber, None)

    def flush(self) -> None:
        """Write what is outgoing to whoever is live."""
        if self.outgoing:
            parts, self.outgoing = build_frames(self.outgoing), []
            for subscriber in tuple(self.live):
                for frames in parts:
                    subscriber.write(frames)

    def activate_caught_up(self, seq: int) -> None:
        """Subscribers that were ahead of the room and have nothing from `seq` on are live from there."""
        arrived = [subscriber for subscriber, after in self.ahead.items() if after < seq]
        if arrived:
            self.flush()
        for subscriber in arrived:
            del self.ahead[subscriber]
            self.live[subscriber] = None
