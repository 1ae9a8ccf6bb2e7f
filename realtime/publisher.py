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
from collections import defaultdict
from collections.abc import Iterable
from typing import TypedDict

from channels.layers import get_channel_layer
from django.conf import settings

from realtime.channels import group_of
from realtime.log import Delivery
from realtime.protocol import encode_event

logger = logging.getLogger(__name__)

Entry = tuple[int, int, float, bytes]
"""One event on the bus: the seq before it in its room, its own, when it happened (Unix time, s), its message."""


class BusMessage(TypedDict):
    """What one `group_send` carries: events of one room, in the order one process committed them."""

    type: str
    room: str
    entries: list[Entry]


class Publisher:
    """The queue of one process's pushes and the thread that sends them."""

    def __init__(self, *, max_unpublished_events: int, timeout_seconds: float) -> None:
        self._max_unpublished_events = max_unpublished_events
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._queue: list[Delivery] = []
        self._failing = False
        self._sent = threading.Condition(self._lock)
        self._sending = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def publish(self, deliveries: Iterable[Delivery]) -> None:
        """Queue deliveries and return at once. Past the bound they are left to the log."""
        with self._lock:
            self._queue.extend(deliveries)
            left_out = len(self._queue) - self._max_unpublished_events
            if left_out > 0:
                del self._queue[-left_out:]
                logger.warning("The bus is too slow: %d pushes left to the log", left_out)
            if self._sending:
                return
            self._sending = True
            loop = self._running_loop()
        asyncio.run_coroutine_threadsafe(self._send_queued(), loop)

    def flush(self, *, timeout_seconds: float) -> bool:
        """Wait until the queue is empty; False if it is not after `timeout_seconds`."""
        with self._lock:
            return self._sent.wait_for(lambda: not self._sending, timeout_seconds)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="publisher", daemon=True).start()
        return self._loop

    async def _send_queued(self) -> None:
        while True:
            with self._lock:
                queued, self._queue = self._queue, []
                if not queued:
                    self._sending = False
                    self._sent.notify_all()
                    return
            entries: dict[tuple[str, str], list[Entry]] = defaultdict(list)
            for delivery in queued:
                event = delivery.event
                message = encode_event(event, room=delivery.room)
                entries[delivery.epoch, delivery.room].append(
                    (delivery.previous_seq, event.seq, event.timestamp.timestamp(), message)
                )
            for (epoch, room), of_room in entries.items():
                on_bus = BusMessage(type="relay.deliver", room=room, entries=of_room)
                await self._send(group_of(room, epoch=epoch), on_bus)

    async def _send(self, group: str, message: BusMessage) -> None:
        layer = get_channel_layer()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await layer.group_send(group, message)
        except Exception as error:
            # Whatever the bus raises (each layer has its own), the log has the events already.
            if not self._failing:
                logger.warning("The bus does not answer (%r): events reach clients from the log", error)
            self._failing = True
        else:
            if self._failing:
                logger.warning("The bus answers again")
            self._failing = False


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
            # A process that ends, as a command does, first sends what it committed.
            atexit.register(_publisher.flush, timeout_seconds=limits.publish_timeout_seconds)
        return _publisher


def _forget_after_fork() -> None:
    """A forked child has no publisher thread: it starts its own."""
    global _publisher, _publisher_lock
    _publisher = None
    _publisher_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)
