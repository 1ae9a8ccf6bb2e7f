"""The push to the bus after a commit, for speed. Whatever is not pushed reaches clients from the log.

Pushes leave from one long-lived thread with an event loop of its own. (`async_to_sync(layer.group_send)` makes a new
loop, and so a new Redis connection, every time: 3.3 ms a push instead of 0.3 ms.) A push that fails, is slow or
finds the queue full never fails or delays whoever committed.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator

from channels.layers import get_channel_layer
from django.conf import settings

from orchestration.bounds import KIB, MIB
from realtime.broadcast.message import Entry, GroupMessage, group_name
from realtime.eventlog.append import Delivery
from realtime.protocol.messages import encode_event

logger = logging.getLogger(__name__)

_MAX_UNPUBLISHED_BYTES = 64 * MIB
"""Data of the events that wait for the bus, whatever their number."""

_MAX_PUSH_BYTES = 256 * KIB
"""What one push carries, unless a single event takes more. Redis cuts off a subscriber that is 32 MiB behind."""


class Publisher:
    """The queue of one process's pushes and the thread that sends them."""

    def __init__(self, *, max_unpublished_events: int, timeout_seconds: float) -> None:
        self._max_unpublished_events = max_unpublished_events
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._queue: deque[Delivery] = deque()
        self._queued_bytes = 0
        self._left_out = 0
        self._failing = False
        self._sent = threading.Condition(self._lock)
        self._sending = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def publish(self, deliveries: Iterable[Delivery]) -> None:
        """Queue deliveries and return at once. Past the bounds the oldest are left to the log."""
        with self._lock:
            for delivery in deliveries:
                self._queue.append(delivery)
                self._queued_bytes += len(delivery.event.data)
            left_out_before = self._left_out
            self._leave_out_the_oldest()
            begins_to_leave_out = self._left_out > 0 and left_out_before == 0
            must_wake = not self._sending
            self._sending = True
            loop = self._running_loop()
        if must_wake:
            asyncio.run_coroutine_threadsafe(self._send_queued(), loop)
        if begins_to_leave_out:
            logger.warning("The bus is too slow: the oldest pushes are left to the log")

    def flush(self, *, timeout_seconds: float) -> bool:
        """Wait until the queue is empty; False if it is not after `timeout_seconds`."""
        with self._lock:
            return self._sent.wait_for(lambda: not self._sending, timeout_seconds)

    def _leave_out_the_oldest(self) -> None:
        """Those are the ones that relays have surely found in the log by now."""
        while len(self._queue) > self._max_unpublished_events or self._queued_bytes > _MAX_UNPUBLISHED_BYTES:
            self._queued_bytes -= len(self._queue.popleft().event.data)
            self._left_out += 1

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="publisher", daemon=True).start()
        return self._loop

    async def _send_queued(self) -> None:
        while queued := self._take_queued():
            try:
                for group, message in _messages(queued):
                    await self._send(group, message)
            except Exception:
                # Nothing is known to come here; but one bad event must not end all pushes of this process.
                logger.exception("Pushes could not be made: they are left to the log")

    def _take_queued(self) -> deque[Delivery]:
        """What waits by now. If that is nothing, the next `publish` starts the sending anew."""
        with self._lock:
            queued, self._queue, self._queued_bytes = self._queue, deque(), 0
            if not queued:
                self._sending = False
                self._sent.notify_all()
            return queued

    async def _send(self, group: str, message: GroupMessage) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await get_channel_layer().group_send(group, message)
        except Exception as error:
            # Whatever the bus raises (each layer has its own), the log has the events already.
            if not self._failing:
                logger.warning("The bus does not answer (%r): events reach clients from the log", error)
            self._failing = True
        else:
            if self._failing or self._left_out:
                logger.warning("The bus answers again; %d pushes were left to the log meanwhile", self._left_out)
            self._failing = False
            self._left_out = 0


def _messages(deliveries: Iterable[Delivery]) -> Iterator[tuple[str, GroupMessage]]:
    """The pushes that carry `deliveries`, and the group each goes to: one for each room, or a few where it has much."""
    rooms: dict[tuple[str, str], list[Delivery]] = {}
    for delivery in deliveries:
        rooms.setdefault((delivery.epoch, delivery.room), []).append(delivery)
    for (epoch, room), of_room in rooms.items():
        group = group_name(room, epoch=epoch)
        entries: list[Entry] = []
        size_bytes = 0
        for delivery in of_room:
            event = delivery.event
            message = encode_event(event, room=room)
            if entries and size_bytes + len(message) > _MAX_PUSH_BYTES:
                yield group, GroupMessage(type="relay.deliver", room=room, entries=entries)
                entries, size_bytes = [], 0
            entries.append((delivery.previous_seq, event.seq, event.timestamp.timestamp(), message))
            size_bytes += len(message)
        yield group, GroupMessage(type="relay.deliver", room=room, entries=entries)


_publisher: Publisher | None = None
_publisher_lock = threading.Lock()


def publisher() -> Publisher:
    """This process's publisher."""
    global _publisher
    with _publisher_lock:
        if _publisher is None:
            limits = settings.MAHAVISHNU_LIMITS
            _publisher = Publisher(
                max_unpublished_events=limits.max_unpublished_events, timeout_seconds=limits.publish_timeout_seconds
            )
        return _publisher


@atexit.register
def _flush_at_exit() -> None:
    """A process that ends, as a command does, first sends what it committed."""
    if _publisher is not None:
        _publisher.flush(timeout_seconds=settings.MAHAVISHNU_LIMITS.publish_timeout_seconds)


def _forget_after_fork() -> None:
    """A forked child has no publisher thread, and perhaps a lock that nobody will release: it starts its own."""
    global _publisher, _publisher_lock
    _publisher = None
    _publisher_lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows has no forks.
    os.register_at_fork(after_in_child=_forget_after_fork)
