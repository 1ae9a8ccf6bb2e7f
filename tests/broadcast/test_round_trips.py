"""The messages to all rooms of a commit are sent in few round trips."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer

from realtime.broadcast import publisher as publisher_module
from realtime.broadcast.envelope import unseal
from realtime.broadcast.groups import group_name
from realtime.broadcast.publisher import Publisher
from tests.broadcast.test_publisher import ARRIVAL_TIMEOUT_SECONDS, BUS_KEY, EPOCH, ROOM, deliveries, new_publisher
from tests.harness.valkey import Valkey


async def test_events_of_many_rooms_take_one_round_trip(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    send = Publisher._send

    async def counted(self: Publisher, messages: list[Any]) -> None:
        sent.append(len(messages))
        await send(self, messages)

    monkeypatch.setattr(Publisher, "_send", counted)
    one = new_publisher()
    one.publish([*deliveries(1, 1, room="workflow:b"), *deliveries(2, 2), *deliveries(4, 1, room="global")])
    assert one.flush(timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    assert sent == [3]


def test_round_trips_are_bounded_in_size() -> None:
    messages = [(str(number), {"sealed": b"x" * 400}) for number in range(7)]
    parts = list(publisher_module._in_parts(messages, part_bytes=1000))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert [message for part in parts for message in part] == messages


async def test_events_are_published_through_another_channel_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = InMemoryChannelLayer()
    monkeypatch.setattr(publisher_module, "get_channel_layer", lambda: layer)
    await layer.group_add(group_name(ROOM, epoch=EPOCH), "here")
    one = new_publisher()
    one.publish([*deliveries(1, 1, room="workflow:b"), *deliveries(2, 1)])
    assert one.flush(timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    envelope = await layer.receive("here")
    assert [entry[1] for entry in unseal(envelope, bus_key=BUS_KEY).entries] == [2]


async def test_error_of_another_channel_layer_loses_no_other_message(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = InMemoryChannelLayer()
    send, failing = layer.group_send, group_name("workflow:b", epoch=EPOCH)

    async def fail_for_one(group: str, message: dict[str, Any]) -> None:
        if group == failing:
            raise OSError("unavailable")
        await send(group, message)

    monkeypatch.setattr(layer, "group_send", fail_for_one)
    monkeypatch.setattr(publisher_module, "get_channel_layer", lambda: layer)
    await layer.group_add(group_name(ROOM, epoch=EPOCH), "here")
    one = new_publisher()
    one.publish([*deliveries(1, 1, room="workflow:b"), *deliveries(2, 1)])
    assert one.flush(timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
        envelope = await layer.receive("here")
    assert [entry[1] for entry in unseal(envelope, bus_key=BUS_KEY).entries] == [2]
