"""The ceiling for the messages of all clients together. Above it, connections are read in turns.

Many clients, each within its own rate, can send more than one process answers. Events would then be late for everybody.
So every message takes a token from one bucket. When it is empty, reading pauses, and the connections continue in turn,
one message each. Unread messages stay in the operating system's buffers: TCP throttles the client, and nothing is lost.

The order is start-time fair queuing (Goyal, Vin and Cheng, SIGCOMM 1996). Each connection has a virtual time, which its
messages move by their cost; the connection with the earliest is next. A client that sends rarely thus waits for no
others, and one that sends expensive requests gets fewer turns.
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from realtime.connection.rate_limit import TokenBucket
from realtime.limits import Limits

_BURST_SECONDS = 0.1
"""How long the clients may send without a ceiling after a quiet time. It delays an event by no more than this."""

_MIN_PAUSE_SECONDS = 0.005
"""Time between two rounds of turns. A shorter one would cost more than the messages."""


class Reader(Protocol):
    """A connection that is read in turns.

    Attributes:
        virtual_time: The sum of what its messages cost; set to the others' when it was idle.
        is_waiting_for_turn: Whether its reading is paused until its turn.
    """

    virtual_time: float
    is_waiting_for_turn: bool

    def pause_reading(self) -> None:
        """Stop reading."""

    def resume_reading(self) -> None:
        """Undo one `pause_reading`; this may read and charge messages at once."""

    def has_ended(self) -> bool:
        """Return whether nothing will be read any more."""


class ReadingTurns:
    """The bucket and the queue of one event loop."""

    def __init__(self, limits: Limits) -> None:
        per_second = limits.max_total_messages_per_second
        self._bucket = TokenBucket(per_second, max(per_second * _BURST_SECONDS, 1.0), asyncio.get_running_loop().time())
        self._virtual_time = 0.0
        self._waiting: list[tuple[float, int, Reader]] = []
        self._numbers = count()

    def charge(self, reader: Reader, cost: int) -> None:
        """Count a message of `reader`, or further work for it, as `cost` messages."""
        self._bucket.tokens -= cost
        reader.virtual_time = max(reader.virtual_time, self._virtual_time) + cost

    def take(self, reader: Reader) -> None:
        """Count one message that was read from `reader`. Pause its reading if others wait, or if there are too many."""
        self.charge(reader, 1)
        if not reader.is_waiting_for_turn and (self._waiting or self._is_empty()):
            if not self._waiting:
                self._schedule()
            reader.is_waiting_for_turn = True
            self._enqueue(reader)
            reader.pause_reading()

    def _is_empty(self) -> bool:
        if self._bucket.tokens >= 0:
            return False
        self._bucket.fill(asyncio.get_running_loop().time())
        return self._bucket.tokens < 0

    def _enqueue(self, reader: Reader) -> None:
        heappush(self._waiting, (reader.virtual_time, next(self._numbers), reader))

    def _schedule(self) -> None:
        pause_seconds = max(self._bucket.seconds_until(1), _MIN_PAUSE_SECONDS)
        asyncio.get_running_loop().call_later(pause_seconds, self._give_turns)

    def _give_turns(self) -> None:
        self._bucket.fill(asyncio.get_running_loop().time())
        turns = int(self._bucket.tokens)
        while self._waiting and turns > 0:
            virtual_time, _, reader = heappop(self._waiting)
            if reader.has_ended():
                reader.is_waiting_for_turn = False
                continue
            if reader.virtual_time > virtual_time:
                self._enqueue(reader)  # Its last message was charged for more work meanwhile.
                continue
            self._virtual_time = virtual_time
            reader.is_waiting_for_turn = False
            turns -= 1
            reader.resume_reading()
        if self._waiting:
            self._schedule()
