"""The ceiling for the messages of all clients together. Above it, connections are read in turns.

Many clients, each within its own rate, can send more than one process answers. Events would then be late for every
client. So every message takes a token from one bucket. When it is empty, reading pauses, and the connections continue
in turn, one message each. Unread messages stay in the operating system's buffers: TCP throttles the client, and nothing
is lost.

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

_ROUND_SECONDS = 0.002
"""Time between two rounds of turns. While connections wait, one round pays for this time at most: if the event loop is
slower, because the machine is busy or many events are delivered, fewer messages are read. With twice this time, a round
delayed an event by 12 ms instead of 8. A shorter time would cost more than the messages."""


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
        """Return whether nothing more will be read."""


class ReadingTurns:
    """The bucket and the queue of one event loop."""

    def __init__(self, limits: Limits) -> None:
        per_second = limits.max_total_messages_per_second
        self._bucket = TokenBucket(per_second, max(per_second * _BURST_SECONDS, 1.0), now=0.0)
        # Whether it was filled in this iteration of the event loop.
        self._is_filled = False
        # There are rounds while connections wait: a timer that only filled the bucket took 15 % of the CPU time of the
        # deliveries after 500 clients had connected.
        self._has_rounds = False
        self._next_round_at = 0.0
        self._virtual_time = 0.0
        self._waiting: list[tuple[float, int, Reader]] = []
        self._numbers = count()

    def charge(self, reader: Reader, cost: int) -> None:
        """Count a message of `reader`, or further work for it, as `cost` messages."""
        self._bucket.tokens -= cost
        reader.virtual_time = max(reader.virtual_time, self._virtual_time) + cost

    def take(self, reader: Reader) -> None:
        """Count one message that was read from `reader`. Pause its reading if others wait, or if there are too many."""
        if not (self._waiting or self._is_filled):
            self._fill_once_in_this_iteration()
        self.charge(reader, 1)
        if not reader.is_waiting_for_turn and (self._waiting or self._bucket.tokens < 0):
            reader.is_waiting_for_turn = True
            self._enqueue(reader)
            reader.pause_reading()
            if not self._has_rounds:
                self._has_rounds = True
                now = self._next_round_at = asyncio.get_running_loop().time()
                self._schedule(now)

    def _fill_once_in_this_iteration(self) -> None:
        """Add tokens. The time that messages take in this iteration adds none: or slow ones would be read for ever."""
        loop = asyncio.get_running_loop()
        self._bucket.fill(loop.time())
        self._is_filled = True
        # This is called before anything is read in the next iteration.
        loop.call_soon(self._begin_iteration)

    def _begin_iteration(self) -> None:
        self._is_filled = False

    def _enqueue(self, reader: Reader) -> None:
        heappush(self._waiting, (reader.virtual_time, next(self._numbers), reader))

    def _schedule(self, now: float) -> None:
        # At a constant rate, regardless of how long a round takes.
        self._next_round_at = max(self._next_round_at + _ROUND_SECONDS, now)
        asyncio.get_running_loop().call_later(self._next_round_at - now, self._begin_round)

    def _begin_round(self) -> None:
        now = asyncio.get_running_loop().time()
        self._bucket.fill(now, at_most_seconds=_ROUND_SECONDS)
        try:
            self._give_turns(int(self._bucket.tokens))
        finally:
            if self._waiting:
                self._schedule(now)
            else:
                self._has_rounds = False

    def _give_turns(self, turns: int) -> None:
        while self._waiting and turns > 0:
            virtual_time, _, reader = heappop(self._waiting)
            if reader.has_ended():
                reader.is_waiting_for_turn = False
            elif reader.virtual_time > virtual_time:
                self._enqueue(reader)  # Its last message was charged for more work meanwhile.
            else:
                self._virtual_time = virtual_time
                reader.is_waiting_for_turn = False
                turns -= 1
                reader.resume_reading()
