"""What a channel may be called, and that two of them never share anything."""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest
from channels.layers import BaseChannelLayer
from hypothesis import given
from hypothesis import strategies as st

from realtime.broadcast.message import group_name
from realtime.protocol.channels import GLOBAL, InvalidChannel, channel_of, check_channel, split_channel
from tests.harness.client import connect
from tests.harness.matchers import a_response, an_error, an_event
from tests.harness.server import MahavishnuServer

EPOCH = "0123456789abcdef0123456789abcdef"
ID_CHARACTERS = string.ascii_letters + string.digits + "._-"

VALID = [
    GLOBAL,
    "workflow:abc123",
    "pool:local",
    "worker:worker_001",
    "workflow:0",
    "pool:-",
    "worker:..",
    "workflow:global",
    "pool:A.b_c-9",
    "workflow:" + "x" * 128,
]

INVALID = [
    "",
    " ",
    ":",
    "workflow",
    "workflow:",
    ":abc",
    "workflow:" + "x" * 129,
    "workflow:a b",
    "workflow:a:b",
    "workflow:a/b",
    "workflow:é",
    "workflow:\U0001f600",
    "workflow:a\n",
    "\nworkflow:a",
    "workflow:a\x00",
    "workflow:*",
    "Workflow:a",
    "workflows:a",
    "session:a",
    "global:a",
    "global ",
    "GLOBAL",
    "workflow.a",
    "x" * 60_000,
]

channel_names = st.one_of(
    st.just(GLOBAL),
    st.builds(
        channel_of,
        st.sampled_from(["workflow", "pool", "worker"]),
        st.text(ID_CHARACTERS, min_size=1, max_size=128),
    ),
)


@pytest.mark.parametrize("channel", VALID)
def test_a_valid_name_is_taken_apart_and_put_together(channel: str) -> None:
    assert check_channel(channel) == channel
    if channel != GLOBAL:
        assert channel_of(*split_channel(channel)) == channel


@pytest.mark.parametrize("channel", INVALID, ids=lambda channel: repr(channel[:20]))
def test_any_other_name_is_refused(channel: str) -> None:
    with pytest.raises(InvalidChannel) as refusal:
        check_channel(channel)
    assert refusal.value.channel == channel


@given(channel_names)
def test_a_group_has_a_name_that_channel_layers_allow(channel: str) -> None:
    assert BaseChannelLayer().require_valid_group_name(group_name(channel, epoch=EPOCH))


@given(channel_names, channel_names)
def test_two_channels_have_two_groups(one: str, other: str) -> None:
    assert (group_name(one, epoch=EPOCH) == group_name(other, epoch=EPOCH)) == (one == other)


@pytest.mark.parametrize("start", ["workflow:" + "x" * length for length in (56, 57, 127)], ids=len)
def test_long_channels_that_differ_at_their_end_have_two_groups(start: str) -> None:
    groups = {group_name(start + end, epoch=EPOCH) for end in "ab."}
    assert len(groups) == 3
    assert all(len(group) < 100 for group in groups)


@pytest.mark.parametrize("channel", [GLOBAL, "workflow:" + "x" * 128], ids=len)
def test_one_channel_of_two_logs_has_two_groups(channel: str) -> None:
    assert group_name(channel, epoch=EPOCH) != group_name(channel, epoch=EPOCH[::-1])


def refusal_of(channel: str) -> str:
    shown = channel if len(channel) <= 200 else channel[:200] + "…"
    syntax = "'global', or workflow|pool|worker ':' [A-Za-z0-9._-]{1,128}"
    return f"Invalid channel name {shown!r}: expected {syntax}"


async def test_a_client_is_told_what_is_wrong_with_a_name_whatever_it_wants_with_it(server: MahavishnuServer) -> None:
    async with connect(server) as client:
        for channel in INVALID:
            for number, (type_, event, key) in enumerate(
                [
                    ("request", "subscribe", "channel"),
                    ("request", "unsubscribe", "channel"),
                    ("event", "subscribe", "room"),
                    ("event", "unsubscribe", "room"),
                ]
            ):
                await client.send({"type": type_, "event": event, "data": {key: channel}, "id": str(number)})
                assert await client.next() == an_error(
                    "INVALID_CHANNEL", refusal_of(channel), event=event, correlation_id=str(number)
                )


async def test_a_client_subscribes_to_every_valid_name(server: MahavishnuServer) -> None:
    async with connect(server) as client:
        for channel in VALID:
            answer = await client.request("subscribe", channel=channel)
            data = {"status": "subscribed", "channel": channel}
            assert answer == a_response("subscribe", data, answer["correlation_id"])


async def test_the_longest_names_get_their_own_events_and_no_other(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    start = unique("pool").ljust(127, "x")
    pools = [start + end for end in "ab"]
    async with connect(server) as client:
        for pool_id in pools:
            await client.subscribe(f"pool:{pool_id}")
        for pool_id in pools:
            server.services.create_pool(pool_id=pool_id)
        events = await client.events(2)
    assert events == [
        an_event(
            "pool.created",
            {"pool_id": pool_id, "timestamp": event["timestamp"]},
            room=f"pool:{pool_id}",
        )
        for pool_id, event in zip(pools, events, strict=True)
    ]
