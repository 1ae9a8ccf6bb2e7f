"""Group subscriptions on a channel layer of several Redis servers, one of which is unavailable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.layers import get_channel_layer
from pytest_django import Settings
from redis.exceptions import ConnectionError as RedisConnectionError

from mahavishnu_site.channel_layers import channel_layer
from realtime.broadcast.envelope import GroupMessage, seal
from realtime.broadcast.groups import GroupSubscriptions
from tests.harness.valkey import Valkey

BUS_KEY = "1" * 64

ARRIVAL_TIMEOUT_SECONDS = 30.0


@pytest.fixture
async def received() -> list[Any]:
    return []


@pytest.fixture
async def subscriptions(valkey: Valkey, settings: Settings, received: list[Any]) -> AsyncIterator[GroupSubscriptions]:
    """Listen on a channel layer of two servers, one of which is unavailable."""
    urls = (valkey.url, "unix:///nowhere/valkey.sock")
    settings.CHANNEL_LAYERS = {"default": channel_layer(urls)}
    subscriptions = GroupSubscriptions(
        received.append, bus_key=lambda: BUS_KEY, timeout_seconds=ARRIVAL_TIMEOUT_SECONDS
    )
    listening = asyncio.create_task(subscriptions.listen())
    # Half of the possible channels belong to the unavailable server; it retries with another one.
    async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
        while subscriptions._layer_channel is None:  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0.01)
    await subscriptions.retry_failed()
    yield subscriptions
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await get_channel_layer().flush()


def is_available(group: str) -> bool:
    layer = get_channel_layer()._get_layer()
    return "nowhere" not in layer._get_shard(layer._get_group_channel_name(group)).host["address"]


async def test_unavailable_server_does_not_block_the_groups_of_other_servers(
    subscriptions: GroupSubscriptions, received: list[Any]
) -> None:
    groups = [f"group-{number}" for number in range(30)]
    available = list(filter(is_available, groups))
    unavailable = [group for group in groups if group not in available]
    assert max(unavailable) > min(available) and max(available) > min(unavailable)
    for group in groups:
        await subscriptions.join(group)
    # A round ends with its first failure, so each round fails for at most one of the unavailable groups.
    for _ in range(len(unavailable) + 1):
        await subscriptions.retry_failed()
    assert [group for group in groups if group in subscriptions._joined] == available
    async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
        while not all(GroupMessage(group, []) in received for group in available):
            for group in available:
                await get_channel_layer().group_send(group, seal(GroupMessage(group, []), bus_key=BUS_KEY))
            await asyncio.sleep(0.02)


async def test_unavailable_server_does_not_block_messages_to_groups_of_other_servers(
    subscriptions: GroupSubscriptions, received: list[Any]
) -> None:
    groups = [f"group-{number}" for number in range(30)]
    available = list(filter(is_available, groups))
    for group in available:
        await subscriptions.join(group)
    messages = [(group, seal(GroupMessage(group, []), bus_key=BUS_KEY)) for group in groups]
    async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
        while not all(GroupMessage(group, []) in received for group in available):
            with pytest.raises(RedisConnectionError):
                await get_channel_layer().group_send_many(messages)
            await asyncio.sleep(0.02)
    # The messages of one call arrive in their order.
    assert [message.room for message in received[-len(available) :]] == available


async def test_group_joined_again_before_it_is_left_stays_joined(subscriptions: GroupSubscriptions) -> None:
    group = next(filter(is_available, (f"group-{number}" for number in range(12))))
    await subscriptions.join(group)
    subscriptions.leave(group)
    await subscriptions.join(group)
    await subscriptions.leave_unwanted()
    assert group in subscriptions._joined
    subscriptions.leave(group)
    await subscriptions.leave_unwanted()
    assert group not in subscriptions._joined
    assert not any(group in joined for joined in get_channel_layer().groups)


async def test_join_does_not_wait_until_all_other_groups_are_left(subscriptions: GroupSubscriptions) -> None:
    subscriptions._outage.is_active = False  # The fixture's second server.
    *groups, wanted = filter(is_available, (f"group-{number}" for number in range(400)))
    for group in groups:
        await subscriptions.join(group)
    for group in groups:
        subscriptions.leave(group)
    leaving = asyncio.create_task(subscriptions.leave_unwanted())
    await asyncio.sleep(0)
    await subscriptions.join(wanted)
    assert len(subscriptions._joined) > len(groups) // 2
    await leaving
    assert subscriptions._joined == {wanted}


async def test_group_left_before_it_could_be_joined_leaves_nothing_behind(subscriptions: GroupSubscriptions) -> None:
    group = next(name for number in range(12) if not is_available(name := f"group-{number}"))
    await subscriptions.join(group)
    subscriptions.leave(group)
    await subscriptions.leave_unwanted()
    # The next round removes the attempt from the layer.
    await subscriptions.retry_failed()
    assert not any(group in joined for joined in get_channel_layer().groups)
    assert (subscriptions._wanted, subscriptions._attempted) == ({}, set())
