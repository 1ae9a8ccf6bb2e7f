"""Channel-layer groups: their names, and membership in the groups of the relay's rooms.

Delivery does not depend on it. A group that cannot be joined is joined later, and missed events are backfilled from the
event log.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Final

from channels.layers import get_channel_layer

from orchestration.log_throttle import LogThrottle, OutageLog
from realtime.broadcast.envelope import GroupMessage, InvalidEnvelope, unseal

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5

# Channels allows ASCII letters, digits, '-', '_' and '.' in a group's name, and fewer than 100 characters.
_MAX_GROUP_CHARACTERS: Final = 99
_OTHER_CHARACTERS: Final = re.compile(r"[^A-Za-z0-9._-]")
_HASH_CHARACTERS: Final = 32


def group_name(channel: str, *, epoch: str) -> str:
    """Return the name of the group that carries a channel's events of the log `epoch`.

    Servers of different databases may share one Redis: their groups differ by epoch. A name that is too long for a
    group, or has other characters, keeps its readable beginning and ends in a hash of the whole name. Two channels
    therefore never share a group.
    """
    group = f"{epoch}.{channel.replace(':', '.', 1)}"
    if len(group) <= _MAX_GROUP_CHARACTERS and _OTHER_CHARACTERS.search(group) is None:
        return group
    digest = hashlib.sha256(group.encode()).hexdigest()[:_HASH_CHARACTERS]
    readable = _OTHER_CHARACTERS.sub("_", group[: _MAX_GROUP_CHARACTERS - _HASH_CHARACTERS - 1])
    return f"{readable}-{digest}"


class GroupSubscriptions:
    """The wanted groups and the joined groups of one process's channel in the channel layer.

    Args:
        on_message: Called with every message of this installation that arrives.
        bus_key: Returns the key of the event log.
        timeout_seconds: Timeout for one call of the layer.
    """

    def __init__(
        self, on_message: Callable[[GroupMessage], None], *, bus_key: Callable[[], str], timeout_seconds: float
    ) -> None:
        self._on_message = on_message
        self._bus_key = bus_key
        self._timeout_seconds = timeout_seconds
        self._invalid_envelopes = LogThrottle(logger)
        self._layer_channel: str | None = None
        self._outage = OutageLog(
            logger,
            failed="Channel layer unavailable (%r); the relay reads events from the event log",
            recovered="Channel layer available again; joined all groups",
        )
        # How often joining each wanted group has failed.
        self._wanted: dict[str, int] = {}
        # Groups with an attempt to join. A failed attempt counts too: the layer may have executed it.
        self._attempted: set[str] = set()
        self._joined: set[str] = set()
        # Groups to leave. A dict, because a group may be marked twice.
        self._unwanted: dict[str, None] = {}
        # Join or leave one group at a time: the timeout then applies to one call, not to a queue of a thousand calls.
        self._lock = asyncio.Lock()

    async def listen(self) -> None:
        """Receive messages in a loop. It ends only when its task is cancelled."""
        layer = get_channel_layer()
        while True:
            try:
                if self._layer_channel is None:
                    self._layer_channel = await self._new_layer_channel()
                envelope = await layer.receive(self._layer_channel)
            except Exception as error:
                # Each layer raises its own errors.
                self._outage.record_failure(error)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            try:
                message = unseal(envelope, bus_key=self._bus_key())
            except InvalidEnvelope as error:
                self._invalid_envelopes.log("Ignored a message in the channel layer: %s", error)
            else:
                self._on_message(message)

    async def join(self, group: str) -> None:
        """Join a group. While the layer is unavailable, leave that to `retry_failed`, so that no caller waits."""
        self._wanted.setdefault(group, 0)
        async with self._lock:
            if not self._outage.is_active:
                await self._join(group)

    def leave(self, group: str) -> None:
        """Mark a group as unwanted. `leave_unwanted` leaves it."""
        self._wanted.pop(group, None)
        self._unwanted[group] = None

    async def leave_unwanted(self) -> None:
        """Leave the unwanted groups one by one, until the layer is unavailable. A join waits for at most one of them.

        A server may have to leave tens of thousands at once, when a load balancer in front of it restarts.
        """
        while self._unwanted:
            async with self._lock:
                if self._outage.is_active:
                    self._unwanted.clear()  # `retry_failed` leaves all groups that are not wanted.
                    return
                await self._leave(self._unwanted.popitem()[0])

    async def retry_failed(self) -> None:
        """Retry all joins and leaves that failed, up to the first failure.

        Groups with the fewest failures come first. So one unavailable Redis server of several does not block the groups
        of the others.
        """
        if self._layer_channel is None:
            return
        for group in sorted(self._wanted.keys() - self._joined, key=self._failures):
            async with self._lock:
                if not await self._join(group):
                    return
        for group in self._attempted - self._wanted.keys():
            async with self._lock:
                if not await self._leave(group):
                    return
        self._outage.record_success()

    def _failures(self, group: str) -> int:
        return self._wanted.get(group, 0)

    async def _join(self, group: str) -> bool:
        """Join a group if it is wanted; return False if the layer failed."""
        if self._layer_channel is None or group in self._joined or group not in self._wanted:
            return True
        self._attempted.add(group)
        if not await self._succeeds(get_channel_layer().group_add(group, self._layer_channel)):
            if group in self._wanted:
                self._wanted[group] += 1
            return False
        self._joined.add(group)
        return True

    async def _leave(self, group: str) -> bool:
        """Leave a group unless it is wanted; return False if the layer failed. Later messages are ignored."""
        if self._layer_channel is None or group in self._wanted or group not in self._attempted:
            return True
        self._joined.discard(group)
        if not await self._succeeds(get_channel_layer().group_discard(group, self._layer_channel)):
            return False
        self._attempted.discard(group)
        return True

    async def _succeeds(self, call: Awaitable[None]) -> bool:
        """Await a call of the layer; return False if it failed or timed out."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await call
        except Exception as error:
            # Each layer raises its own errors.
            self._outage.record_failure(error)
            return False
        return True

    async def _new_layer_channel(self) -> str:
        layer = get_channel_layer()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                channel: str = await layer.new_channel()
                return channel
        except BaseException:
            # The layer keeps a queue for each channel that it tried to create. It holds nothing else of this process.
            await layer.flush()
            raise
