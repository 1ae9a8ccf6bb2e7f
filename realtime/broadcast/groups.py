"""The relay's end of the channel layer: one channel, in the group of every room that somebody here subscribes to.

Nothing here is certain, and nothing depends on it. A group that cannot be joined now is joined later, and what is not
heard meanwhile is found in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine

from channels.layers import get_channel_layer

from realtime.broadcast.message import GroupMessage

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5


class GroupSubscriptions:
    """The groups that are wanted, and those that are joined.

    Args:
        take: Called with every message that arrives.
        timeout_seconds: How long one call of the layer may take.
    """

    def __init__(self, take: Callable[[GroupMessage], None], *, timeout_seconds: float) -> None:
        self._take = take
        self._timeout_seconds = timeout_seconds
        self._channel: str | None = None
        self._failing = False
        # The groups that are wanted, and how often joining each has failed.
        self._wanted: dict[str, int] = {}
        # Also where joining has failed: the layer may remember the attempt.
        self._entered: set[str] = set()
        self._joined: set[str] = set()
        # One group is joined or left at a time: what a call is timed by is the bus, not the queue of a thousand calls.
        self._calling = asyncio.Lock()

    @property
    def is_listening(self) -> bool:
        """Whether there is a channel, so that groups can be joined."""
        return self._channel is not None

    def has_joined(self, group: str) -> bool:
        """Whether what is sent to `group` arrives, as far as is known."""
        return group in self._joined

    async def listen(self) -> None:
        """Take what arrives, for ever."""
        layer = get_channel_layer()
        while True:
            try:
                if self._channel is None:
                    self._channel = await self._new_channel()
                message: GroupMessage = await layer.receive(self._channel)
            except Exception as error:
                # Each layer raises its own errors.
                self._failed(error)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            try:
                self._take(message)
            except (LookupError, TypeError, ValueError) as error:
                logger.warning("Took a message off the bus that is not one of ours (%r)", error)

    async def join(self, group: str) -> None:
        """Want a group, and join it unless the bus is known to be away: that must hold up nobody."""
        self._wanted.setdefault(group, 0)
        async with self._calling:
            if not self._failing:
                await self._join(group)

    def leave(self, group: str) -> Coroutine[None, None, None]:
        """Want a group no more from now on. What is returned leaves it, unless the bus is known to be away."""
        self._wanted.pop(group, None)
        return self._leave_in_turn(group)

    async def _leave_in_turn(self, group: str) -> None:
        async with self._calling:
            if not self._failing:
                await self._leave(group)

    async def catch_up(self) -> None:
        """Join and leave what could not be joined and left; the first failure ends it.

        What has failed least comes first. So of several Redis servers, one that is away does not keep the groups of
        the others out.
        """
        if self._channel is None:
            return
        for group in sorted(self._wanted.keys() - self._joined, key=self._failures):
            async with self._calling:
                if not await self._join(group):
                    return
        for group in self._entered - self._wanted.keys():
            async with self._calling:
                if not await self._leave(group):
                    return
        if self._failing:
            logger.warning("The bus answers again")
        self._failing = False

    def _failures(self, group: str) -> int:
        return self._wanted.get(group, 0)

    async def _join(self, group: str) -> bool:
        """False if the bus failed."""
        if self._channel is None or group in self._joined or group not in self._wanted:
            return True
        self._entered.add(group)
        if not await self._carries_out(get_channel_layer().group_add(group, self._channel)):
            if group in self._wanted:
                self._wanted[group] += 1
            return False
        self._joined.add(group)
        return True

    async def _leave(self, group: str) -> bool:
        """False if the bus failed. Until the group is left, what arrives from it is ignored."""
        if self._channel is None or group in self._wanted or group not in self._entered:
            return True
        self._joined.discard(group)
        if not await self._carries_out(get_channel_layer().group_discard(group, self._channel)):
            return False
        self._entered.discard(group)
        return True

    async def _carries_out(self, call: Awaitable[None]) -> bool:
        """False if the bus failed."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await call
        except Exception as error:
            # Each layer raises its own errors.
            self._failed(error)
            return False
        return True

    async def _new_channel(self) -> str:
        layer = get_channel_layer()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                channel: str = await layer.new_channel()
                return channel
        except BaseException:
            # The layer keeps a queue for each channel it tried to make. There is nothing else of ours in it yet.
            await layer.flush()
            raise

    def _failed(self, error: Exception) -> None:
        if not self._failing:
            logger.warning("The bus does not answer (%r): events are read from the log", error)
        self._failing = True
