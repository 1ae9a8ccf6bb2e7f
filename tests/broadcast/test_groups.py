"""The relay's end of the channel layer, where Redis is not one server but several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.layers import get_channel_layer
from pytest_django import Settings

from mahavishnu_site.backends import channel_layer
from realtime.broadcast.groups import GroupSubscriptions
from tests.harness.valkey import Valkey

ARRIVAL_TIMEOUT_SECONDS = 30.0


@pytest.fixture
async def heard() -> list[Any]:
    return []


@pytest.fixture
async def bus_of_two(valkey: Valkey, settings: Settings, heard: list[Any]) -> AsyncIterator[GroupSubscriptions]:
    """A bus on two servers, one of which is away."""
    urls = (valkey.url, "unix:///nowhere/valkey.sock")
    settings.CHANNEL_LAYERS = {"default": channel_layer(urls)}
    bus = GroupSubscriptions(lambda message: heard.append(dict(message)), timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    listening = asyncio.create_task(bus.listen())
    # Half of the channels it may get belong to the server that is away: then it tries another one.
    async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
        while not bus.is_listening:  # noqa: ASYNC110 (it does not tell anyone)
            await asyncio.sleep(0.01)
    await bus.catch_up()
    yield bus
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await get_channel_layer().flush()


def is_there(group: str) -> bool:
    layer = get_channel_layer()._get_layer()
    return "nowhere" not in layer._get_shard(layer._get_group_channel_name(group)).host["address"]


async def test_a_server_that_is_away_does_not_keep_the_groups_of_the_others_out(
    bus_of_two: GroupSubscriptions, heard: list[Any]
) -> None:
    groups = [f"group-{number}" for number in range(30)]
    there = list(filter(is_there, groups))
    away = [group for group in groups if group not in there]
    assert max(away) > min(there) and max(there) > min(away)
    for group in groups:
        await bus_of_two.join(group)
    # The first failure ends the joining until the next round. Each round finds out about one of those away, at most.
    for _ in range(len(away) + 1):
        await bus_of_two.catch_up()
    assert [group for group in groups if bus_of_two.has_joined(group)] == there
    async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
        while not all({"to": group} in heard for group in there):
            for group in there:
                await get_channel_layer().group_send(group, {"to": group})
            await asyncio.sleep(0.02)


async def test_a_group_that_is_wanted_again_before_it_is_left_stays_joined(bus_of_two: GroupSubscriptions) -> None:
    group = next(filter(is_there, (f"group-{number}" for number in range(12))))
    await bus_of_two.join(group)
    leaving = bus_of_two.leave(group)
    await bus_of_two.join(group)
    await leaving
    assert bus_of_two.has_joined(group)
    await bus_of_two.leave(group)
    assert not bus_of_two.has_joined(group)
    assert not any(group in joined for joined in get_channel_layer().groups)


async def test_a_group_that_is_given_up_before_it_could_be_joined_is_forgotten(bus_of_two: GroupSubscriptions) -> None:
    group = next(name for number in range(12) if not is_there(name := f"group-{number}"))
    await bus_of_two.join(group)
    await bus_of_two.leave(group)
    # What the layer remembers of the attempt goes in the next round.
    await bus_of_two.catch_up()
    assert not any(group in joined for joined in get_channel_layer().groups)
    assert (bus_of_two._wanted, bus_of_two._entered) == ({}, set())
