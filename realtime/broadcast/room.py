"""A channel with local subscribers: its members, its position and its reorder buffer."""

from __future__ import annotations

import asyncio
from typing import Protocol

from realtime.broadcast.envelope import Entry
from realtime.broadcast.groups import group_name
from realtime.protocol.channels import source_of
from realtime.protocol.frames import Frames, build_frames


class Subscriber(Protocol):
    """A connection, as the relay uses it."""

    def write(self, frames: Frames) -> None:
        """Send frames now or as soon as possible, without waiting and without raising."""

    def on_log_reset(self) -> None:
        """Reset the subscriptions: the log cannot continue from the position of this connection."""


class Room:
    """The local subscribers of a channel, and the position up to which they have its events.

    Attributes:
        channel: The channel's name.
        group: The channel-layer group that carries its events. `global` and `summary` share one.
        seq: Position of the room: live subscribers have received every event up to here. -1 until the room is open.
        members: All subscribers.
        live: Members that receive events as they are delivered. A dict keeps their order.
        ahead: Members that have already read past the room's position; events up to their own position are skipped.
        reorder_buffer: Events received before the gap in front of them was filled, by seq.
        outgoing: Messages to write at the end of this turn of the loop.
        opening: The task that opens the room.
        backfill: The task that fills a gap, or the timer that will start it.
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
        self.group = group_name(source_of(channel), epoch=epoch)
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
        """Whether the room has a position, so that events can be delivered."""
        return self.seq >= 0

    def activate(self, subscriber: Subscriber, *, after: int) -> bool:
        """Deliver every event above `after` to a member; return False if the room's position is already higher."""
        if after < self.seq:
            return False
        if after > self.seq:
            self.ahead[subscriber] = after
        else:
            self.flush()
            self.live[subscriber] = None
        return True

    def pause(self, subscriber: Subscriber) -> None:
        """Deliver no events to a member until `activate`; it stays a member."""
        self.flush()
        self.live.pop(subscriber, None)
        self.ahead.pop(subscriber, None)

    def remove(self, subscriber: Subscriber) -> None:
        """Remove `subscriber`, if it is a member."""
        self.members.discard(subscriber)
        self.live.pop(subscriber, None)
        self.ahead.pop(subscriber, None)

    def flush(self) -> None:
        """Write the outgoing messages to the live members."""
        if self.outgoing:
            parts, self.outgoing = build_frames(self.outgoing), []
            for subscriber in tuple(self.live):
                for frames in parts:
                    subscriber.write(frames)

    def activate_caught_up(self, seq: int) -> None:
        """Make live the members that were ahead of the room, if their own position is below `seq`."""
        caught_up = [subscriber for subscriber, after in self.ahead.items() if after < seq]
        if caught_up:
            self.flush()
        for subscriber in caught_up:
            del self.ahead[subscriber]
            self.live[subscriber] = None
