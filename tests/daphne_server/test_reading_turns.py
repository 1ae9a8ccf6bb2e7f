"""The ceiling for all clients together: connections are read in turns, nothing is lost, and no client gets an error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from realtime.daphne_server.reading_turns import ReadingTurns
from realtime.limits import Limits
from tests.connection.raw_client import RawClient, open_raw, request, text
from tests.harness.fixtures import StartServer

PER_SECOND = 100
BURST = 10
ROUND_SECONDS = 0.002
TIMEOUT_SECONDS = 40


class FakeReader:
    """A connection with unread messages. It reads them while it may, as a protocol does."""

    def __init__(
        self,
        turns: ReadingTurns,
        name: str,
        served: list[str],
        *,
        unread: int,
        cost: int = 1,
        on_message: Callable[[], None] = lambda: None,
    ) -> None:
        self.virtual_time = 0.0
        self.is_waiting_for_turn = False
        self.unread = unread
        self.ended = False
        self._turns = turns
        self._name = name
        self._served = served
        self._cost = cost
        self._on_message = on_message
        self._is_paused = False

    def read(self) -> None:
        while self.unread and not self._is_paused:
            self.unread -= 1
            self._on_message()
            self._served.append(self._name)
            self._turns.take(self)
            if self._cost > 1:
                self._turns.charge(self, self._cost - 1)

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        self.read()

    def has_ended(self) -> bool:
        return self.ended


class Clock:
    """A clock for the bucket, and the rounds of turns as calls of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self._rounds: list[Callable[[], None]] = []
        self._soon: list[Callable[[], None]] = []
        monkeypatch.setattr("realtime.daphne_server.reading_turns.asyncio.get_running_loop", lambda: self)

    def time(self) -> float:
        return self.now

    def call_later(self, _delay: float, callback: Callable[[], None]) -> None:
        self._rounds.append(callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def advance(self, seconds: float) -> None:
        """Let time pass, with an iteration of the event loop and a round every 2 ms."""
        for _ in range(round(seconds / ROUND_SECONDS)):
            self.now += ROUND_SECONDS
            self.run_rounds()

    def run_rounds(self) -> None:
        soon, self._soon = self._soon, []
        for callback in soon:
            callback()
        rounds, self._rounds = self._rounds, []
        for begin_round in rounds:
            begin_round()

    @property
    def is_idle(self) -> bool:
        return not self._rounds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def turns(clock: Clock) -> ReadingTurns:
    return ReadingTurns(Limits(max_total_messages_per_second=PER_SECOND))


def test_messages_below_the_ceiling_are_never_delayed(clock: Clock, turns: ReadingTurns) -> None:
    served: list[str] = []
    reader = FakeReader(turns, "a", served, unread=0)
    for _ in range(500):
        reader.unread += 1
        reader.read()
        assert not reader.unread
        clock.advance(1 / PER_SECOND)


def test_time_of_reading_adds_no_messages_to_the_same_iteration(clock: Clock, turns: ReadingTurns) -> None:
    def take_time() -> None:
        clock.now += 1 / PER_SECOND

    served: list[str] = []
    FakeReader(turns, "a", served, unread=1000, on_message=take_time).read()
    # The burst, the message that exceeds it, and one token for the time of the first message.
    assert BURST <= len(served) <= BURST + 2


def test_turns_continue_after_a_connection_that_fails(clock: Clock, turns: ReadingTurns) -> None:
    class FailingReader(FakeReader):
        def resume_reading(self) -> None:
            raise RuntimeError("a fault of this connection")

    served: list[str] = []
    FakeReader(turns, "a", served, unread=BURST + 1).read()
    FailingReader(turns, "failing", served, unread=1).read()
    FakeReader(turns, "b", served, unread=5).read()
    with pytest.raises(RuntimeError, match="a fault of this connection"):
        clock.advance(1)
    clock.advance(1)
    assert served.count("b") == 5


def test_no_timer_runs_while_nothing_waits(clock: Clock, turns: ReadingTurns) -> None:
    served: list[str] = []
    reader = FakeReader(turns, "a", served, unread=BURST)
    reader.read()
    assert (len(served), clock.is_idle) == (BURST, True)
    reader.unread = 3
    reader.read()
    assert not clock.is_idle
    # The bucket is not full yet, but nothing waits.
    clock.advance(4.5 / PER_SECOND)
    assert (len(served), clock.is_idle) == (BURST + 3, True)


def test_slow_event_loop_reads_less_than_the_ceiling(clock: Clock, turns: ReadingTurns) -> None:
    served: list[str] = []
    FakeReader(turns, "a", served, unread=1000).read()
    clock.advance(0.05)  # Pays for the last message.
    served.clear()
    for _ in range(10):
        clock.now += 5.0
        clock.run_rounds()
    # 2 ms of each: the time of one round.
    assert 1 <= len(served) <= 3


def test_slow_event_loop_pays_for_all_of_its_time_while_nothing_waits(clock: Clock, turns: ReadingTurns) -> None:
    served: list[str] = []
    reader = FakeReader(turns, "a", served, unread=0)
    for _ in range(20):
        reader.unread += BURST - 1
        reader.read()
        assert not reader.unread
        clock.now += BURST / PER_SECOND
        clock.run_rounds()


def test_connections_are_read_in_turns_above_the_ceiling(clock: Clock, turns: ReadingTurns) -> None:
    served: list[str] = []
    readers = [FakeReader(turns, name, served, unread=100) for name in "abc"]
    for reader in readers:
        reader.read()
    # The burst, and one message with which each connection finds the bucket empty.
    assert served == ["a"] * (BURST + 1) + ["b", "c"]
    served.clear()
    clock.advance(0.2)  # Pays for those three, ...
    for _ in range(100):
        clock.advance(0.03)
    # ... and then three messages are due in each round. "a" has had its burst, and waits for the others.
    assert served[:20] == ["b", "c"] * 10
    assert set(served[30:33]) == {"a", "b", "c"}
    counts = [served.count(name) for name in "abc"]
    assert max(counts) - min(counts) <= BURST + 1
    while any(reader.unread for reader in readers):
        clock.advance(0.03)
    clock.advance(1)
    assert len(served) == 3 * 100 - BURST - 3
    assert clock.is_idle


def test_client_that_sends_rarely_waits_for_no_other(clock: Clock, turns: ReadingTurns) -> None:
    served: list[str] = []
    floods = [FakeReader(turns, "flood", served, unread=1000) for _ in range(50)]
    rare = FakeReader(turns, "rare", served, unread=0)
    for reader in floods:
        reader.read()
    for _ in range(5):
        for _ in range(10):
            clock.advance(0.1)
        served.clear()
        rare.unread = 1
        rare.read()
        assert served == ["rare"]


def test_expensive_messages_get_fewer_turns(clock: Clock, turns: ReadingTurns) -> None:
    served: list[str] = []
    cheap = FakeReader(turns, "cheap", served, unread=10_000)
    expensive = FakeReader(turns, "expensive", served, unread=10_000, cost=5)
    cheap.read()
    expensive.read()
    clock.advance(1)
    served.clear()
    for _ in range(1000):
        clock.advance(0.05)
    ratio = served.count("cheap") / served.count("expensive")
    assert 4.5 < ratio < 5.5
    # Both together stay within the ceiling: 50 s.
    assert served.count("cheap") + 5 * served.count("expensive") < PER_SECOND * 51


def test_ended_connections_take_no_turn(clock: Clock, turns: ReadingTurns) -> None:
    served: list[str] = []
    readers = [FakeReader(turns, name, served, unread=100) for name in "abc"]
    for reader in readers:
        reader.read()
    readers[1].ended = True
    served.clear()
    for _ in range(100):
        clock.advance(0.03)
    assert "b" not in served
    assert served.count("c") == 99


async def test_clients_above_the_ceiling_lose_nothing_and_get_no_error(start_server: StartServer) -> None:
    # Each client stays within its own rate, and all together exceed the ceiling.
    server = start_server(max_total_messages_per_second=500, max_messages_per_second=1e6, max_message_burst=1_000_000)
    count, clients = 150, 8
    async with AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(open_raw(server.port)) for _ in range(clients)]
        began = asyncio.get_running_loop().time()
        for client in crowd:
            await client.send(*(text(f'{{"type":"ping","id":"{number}"}}') for number in range(count)))
        # A client that is not one of them is answered at once: it does not wait for 1200 messages.
        async with open_raw(server.port) as rare:
            await rare.send(request("subscribe", channel="global"))
            assert (await rare.message())["type"] == "response"
            rare_seconds = asyncio.get_running_loop().time() - began
        answers = await asyncio.gather(*(pongs(client, count) for client in crowd))
        seconds = asyncio.get_running_loop().time() - began
    assert answers == [[str(number) for number in range(count)]] * clients
    minimum_seconds = (clients * count - 100) / 500
    assert seconds > minimum_seconds
    assert rare_seconds < seconds


async def pongs(client: RawClient, count: int) -> list[str]:
    """Return the ids of the next pongs."""
    found = []
    for _ in range(count):
        message = await client.message()
        assert message["type"] == "pong", message
        found.append(message["correlation_id"])
    return found
