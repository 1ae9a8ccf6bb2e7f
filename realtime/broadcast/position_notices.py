"""The notice `session.position`: one number with which a client of several channels can resume all of them.

A relay's position is that of its last comparison with the log: every room is complete up to it. So a connection whose
subscriptions are all live has been sent every event of its channels up to there, once the outgoing events are written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Final

from realtime.broadcast.flush import WriteCoalescer
from realtime.broadcast.room import Subscriber
from realtime.eventlog.position import Position
from realtime.protocol.frames import Frames
from realtime.protocol.session import encode_session_position

INTERVAL_SECONDS: Final = 1.0
"""Time from the end of one round of notices to the next round: a connection receives at most one in this time."""

_NOTICES_PER_TURN: Final = 100
"""Connections written to in one turn of the event loop. Between turns events are delivered."""


class PositionNotices:
    """The connections of one process that receive the notice, and the position that each was sent last.

    Args:
        coalescer: Writes the events that are delivered and not written yet.
        position: Returns the position up to which every room is complete.
    """

    def __init__(self, coalescer: WriteCoalescer, position: Callable[[], Position]) -> None:
        self._coalescer = coalescer
        self._position = position
        self._sent: dict[Subscriber, int] = {}
        self._due_at = 0.0

    def add(self, subscriber: Subscriber) -> None:
        """Send notices to a connection. All of its subscriptions are live, and stay so until `remove`.

        It receives one even if the position has not moved: the last one did not include its new channel.
        """
        self._sent[subscriber] = -1

    def remove(self, subscriber: Subscriber) -> None:
        """Send no more notices to a connection, if it received them."""
        self._sent.pop(subscriber, None)

    def settled_position(self) -> Position:
        """Return a position of which every event, up to it, has been written to the live subscribers of all rooms."""
        self._coalescer.flush()
        return self._position()

    async def send_due(self) -> None:
        """Send the position to each connection that was sent another one, unless the last round was just now."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._due_at:
            return
        waiting = iter(list(self._sent))
        while part := list(islice(waiting, _NOTICES_PER_TURN)):
            self._send_to(part)
            await asyncio.sleep(0)
        self._due_at = loop.time() + INTERVAL_SECONDS

    def _send_to(self, subscribers: list[Subscriber]) -> None:
        position, frames = self.settled_position(), None
        for subscriber in subscribers:
            # Another subscription of it may have begun meanwhile.
            if self._sent.get(subscriber, position.seq) != position.seq:
                frames = frames or Frames([encode_session_position(seq=position.seq, epoch=position.epoch)])
                self._sent[subscriber] = position.seq
                subscriber.write(frames)
