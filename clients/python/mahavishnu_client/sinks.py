"""What receives the events of a channel: the queue of an iterator, or the state of a resource."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec

from mahavishnu_client.errors import ClientError
from mahavishnu_client.events import Event, HistoryLost, Position
from mahavishnu_client.fold import decode_state, fold
from mahavishnu_client.options import Options
from mahavishnu_client.queue_bound import QueueBound
from mahavishnu_client.state import State


class Waiters:
    """Tasks that wait for the next change. Each change wakes all of them once.

    Attributes:
        futures: What they wait for; None if no task waits.
    """

    __slots__ = ("futures",)

    def __init__(self) -> None:
        self.futures: list[asyncio.Future[None]] | None = None

    async def wait(self) -> None:
        """Return after the next change."""
        future = asyncio.get_running_loop().create_future()
        if self.futures is None:
            self.futures = []
        self.futures.append(future)
        try:
            await future
        except asyncio.CancelledError:
            self.futures = [other for other in self.futures or () if other is not future] or None
            raise

    def wake(self) -> None:
        """End every wait that has begun."""
        if self.futures is not None:
            futures, self.futures = self.futures, None
            for future in futures:
                if not future.done():
                    future.set_result(None)


class Sink:
    """A receiver of one channel. Its `Subscription` opens it once the server has answered where events start.

    Attributes:
        seq: The position up to which it has received everything; None if it starts with the connection.
        epoch: The log of `seq`.
        is_open: Whether the next event of the channel follows on what it has received.
        is_full: Whether it takes no more events until its caller has handled some.
        needs_snapshot: Whether it starts with a snapshot.
        error: Why it ended, if it did.
    """

    __slots__ = ("epoch", "error", "is_full", "is_open", "needs_snapshot", "seq", "waiters")

    def __init__(self, *, seq: int | None, epoch: str) -> None:
        self.seq = seq
        self.epoch = epoch
        self.is_open = False
        self.is_full = False
        self.needs_snapshot = False
        self.error: ClientError | None = None
        self.waiters = Waiters()

    def push(self, event: Event, size_bytes: int) -> None:
        """Take the next event of the channel, unless it has it."""
        raise NotImplementedError

    def load(self, snapshot: msgspec.Raw, *, seq: int, epoch: str) -> None:
        """Start from a snapshot."""
        raise NotImplementedError

    def lose(self, channel: str, reason: str, *, seq: int, epoch: str) -> None:
        """Continue at a position after a gap."""
        raise NotImplementedError

    def start(self, seq: int, epoch: str) -> None:
        """Start at a position: that of the first connection."""
        self.seq, self.epoch = seq, epoch

    def suspend(self, as_of: float) -> None:
        """Wait for the next connection. This one has ended at the time `as_of`."""
        self.is_open = False

    def fail(self, error: ClientError) -> None:
        """End: no more events follow."""
        self.error = error
        self.is_open = False
        self.waiters.wake()

    def move_to(self, seq: int) -> None:
        """Everything up to `seq` was received."""
        if self.seq is None or seq > self.seq:
            self.seq = seq


class EventQueue(Sink):
    """The events that wait for one caller. At a bound it is full: the log of the server keeps the others.

    Args:
        on_full: Called when it becomes full.
        on_room: Called when half of it was taken since.
    """

    __slots__ = (
        "_bound",
        "_handled_epoch",
        "_handled_seq",
        "_in_hand",
        "_items",
        "_on_full",
        "_on_room",
        "_sizes",
        "_taken_epoch",
    )

    def __init__(
        self,
        options: Options,
        *,
        seq: int | None,
        epoch: str,
        on_full: Callable[[EventQueue], None],
        on_room: Callable[[EventQueue], None],
    ) -> None:
        super().__init__(seq=seq, epoch=epoch)
        self._bound = QueueBound(options)
        self._on_full = on_full
        self._on_room = on_room
        self._items: deque[Event | HistoryLost] = deque()
        self._sizes: deque[int] = deque()
        self._handled_seq, self._handled_epoch, self._taken_epoch = seq or 0, epoch, epoch
        self._in_hand: Event | HistoryLost | None = None

    def push(self, event: Event, size_bytes: int) -> None:
        if not self.is_open or event.seq <= self.seq:  # type: ignore[operator]
            return
        if not self._bound.admits(size_bytes):
            self.is_open = False
            self.is_full = True
            self._on_full(self)
            return
        self.seq = event.seq
        self._add(event, size_bytes)

    def lose(self, channel: str, reason: str, *, seq: int, epoch: str) -> None:
        self._add(HistoryLost(channel=channel, reason=reason, seq=seq, epoch=epoch), 0)
        self.seq, self.epoch = seq, epoch

    def start(self, seq: int, epoch: str) -> None:
        super().start(seq, epoch)
        self._handled_seq, self._handled_epoch, self._taken_epoch = seq, epoch, epoch

    @property
    def handled(self) -> Position | None:
        """The position up to which the caller has handled everything: an event counts when the next one is taken."""
        if self._items or self._in_hand is not None:
            return Position(self._handled_seq, self._handled_epoch)
        return None if self.seq is None else Position(self.seq, self.epoch)

    def take(self) -> Event | HistoryLost | None:
        """Return the next item, and count the one before as handled; None if there is none."""
        in_hand = self._in_hand
        if in_hand is not None:
            self._in_hand = None
            self._handled_seq, self._handled_epoch = in_hand.seq, self._taken_epoch
        if not self._items:
            return None
        item = self._in_hand = self._items.popleft()
        self._bound.remove(self._sizes.popleft())
        if isinstance(item, HistoryLost):
            self._taken_epoch = item.epoch
        if self.is_full and self._bound.is_half_free:
            self.is_full = False
            self._on_room(self)
        return item

    def take_more(self, count: int) -> list[Event | HistoryLost]:
        """Return up to `count` further items, which count as handled with `mark_handled` or the next `take`."""
        handled_seq, handled_epoch = self._handled_seq, self._handled_epoch
        items: list[Event | HistoryLost] = []
        while self._items and len(items) < count and (item := self.take()) is not None:
            items.append(item)
        self._handled_seq, self._handled_epoch = handled_seq, handled_epoch
        return items

    def mark_handled(self, item: Event | HistoryLost) -> None:
        """Count an item of `take_more` as handled, with those before it."""
        if isinstance(item, HistoryLost):
            self._handled_epoch = item.epoch
        self._handled_seq = item.seq

    def _add(self, item: Event | HistoryLost, size_bytes: int) -> None:
        self._items.append(item)
        self._sizes.append(size_bytes)
        self._bound.add(size_bytes)
        self.waiters.wake()


class StateCell(Sink):
    """The state of one channel, folded as events arrive. Only the newest state is kept.

    Attributes:
        state: The state; None if the resource does not exist.
        is_loaded: Whether there was a snapshot.
        as_of: When the connection ended; 0 before the first end.
        user_count: Iterators that use it.
        is_truncated_snapshot: Whether the last snapshot was truncated already, so that reading again helps little.
        reread_at: Before this time of the event loop it is not read again.
    """

    __slots__ = (
        "_on_truncated",
        "as_of",
        "channel",
        "is_loaded",
        "is_truncated_snapshot",
        "reread_at",
        "state",
        "user_count",
    )

    def __init__(self, channel: str, *, on_truncated: Callable[[StateCell], None]) -> None:
        super().__init__(seq=None, epoch="")
        self.channel = channel
        self.needs_snapshot = True
        self.state: State | None = None
        self.is_loaded = False
        self.is_truncated_snapshot = False
        self.as_of = 0.0
        self.reread_at = 0.0
        self.user_count = 0
        self._on_truncated = on_truncated

    def push(self, event: Event, size_bytes: int) -> None:
        if not self.is_open or event.seq <= self.seq:  # type: ignore[operator]
            return
        self.seq = event.seq
        before = self.state
        after = fold(self.channel, before, event)
        if after is before:
            return
        self.state = after
        if after is not None and after.truncated:
            self._on_truncated(self)
        self.waiters.wake()

    def load(self, snapshot: msgspec.Raw, *, seq: int, epoch: str) -> None:
        self.state = decode_state(self.channel, snapshot)
        self.needs_snapshot = False
        self.is_loaded = True
        self.is_truncated_snapshot = self.state is not None and self.state.truncated
        self.seq, self.epoch = seq, epoch
        self.waiters.wake()

    def lose(self, channel: str, reason: str, *, seq: int, epoch: str) -> None:
        self.needs_snapshot = True

    def suspend(self, as_of: float) -> None:
        if self.is_open:
            self.as_of = as_of
        super().suspend(as_of)
        self.waiters.wake()
