"""The channel grammar, and that no two channels share a group or an event."""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest
from channels.layers import BaseChannelLayer
from hypothesis import given
from hypothesis import strategies as st

from orchestration.identifiers import MAX_IDENTIFIER_LENGTH, is_identifier
from realtime.broadcast.groups import group_name
from realtime.protocol.channels import (
    GLOBAL,
    MAX_ID_CHARACTERS,
    SUMMARY,
    InvalidChannel,
    channel_of,
    check_channel,
    items_channel,
    split_channel,
)
from tests.harness.client import connect
from tests.harness.matchers import a_response, an_error, an_event
from tests.harness.server import MahavishnuServer

EPOCH = "0123456789abcdef0123456789abcdef"
ID_CHARACTERS = string.ascii_letters + string.digits + "._-"

VALID = [
    "global",
    "summary",
    "workflow:abc123",
    "pool:local",
    "worker:worker_001",
    "workflow:0",
    "pool:-",
    "worker:..",
    "workflow:a/b",
    "workflow:a/embed%20all%2F",
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
    "workflow:a/",
    "workflow:a/b/c",
    "workflow:a/b c",
    "pool:a/b",
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
    "summary:a",
    "Summary",
    "global ",
    "GLOBAL",
    "workflow.a",
    "x" * 200,
    "x" * 201,
    "x" * 60_000,
]

channel_names = st.one_of(
    st.just(GLOBAL),
    st.builds(
        channel_of,
        st.sampled_from(["workflow", "pool", "worker"]),
        st.text(ID_CHARACTERS, min_size=1, max_size=128),
    ),
    st.builds(
        items_channel,
        st.text(ID_CHARACTERS, min_size=1, max_size=128),
        st.text(st.characters(codec="ascii"), min_size=1, max_size=33),
    ),
)


@pytest.mark.parametrize("channel", VALID)
def test_check_channel_accepts(channel: str) -> None:
    assert check_channel(channel) == channel
    if channel not in (GLOBAL, SUMMARY):
        assert channel_of(*split_channel(channel)) == channel


@pytest.mark.parametrize("channel", INVALID, ids=lambda channel: repr(channel[:20]))
def test_check_channel_rejects(channel: str) -> None:
    with pytest.raises(InvalidChannel) as caught:
        check_channel(channel)
    assert caught.value.channel == channel
    assert str(caught.value) == error_message_for(channel)


def test_split_channel_of_global_and_summary_has_no_id() -> None:
    assert split_channel(GLOBAL) == (GLOBAL, "")
    assert split_channel(SUMMARY) == (SUMMARY, "")


@given(st.one_of(st.text(max_size=8), st.text(ID_CHARACTERS, min_size=126, max_size=130)))
def test_channel_ids_are_the_identifiers_of_orchestration(text: str) -> None:
    """Both packages spell out the grammar: `realtime.protocol` may not import `orchestration`."""
    try:
        check_channel(channel_of("pool", text))
    except InvalidChannel:
        assert not is_identifier(text)
    else:
        assert is_identifier(text)
    assert MAX_ID_CHARACTERS == MAX_IDENTIFIER_LENGTH


@given(channel_names)
def test_group_name_is_valid_for_channel_layers(channel: str) -> None:
    assert BaseChannelLayer().require_valid_group_name(group_name(channel, epoch=EPOCH))


@given(channel_names, channel_names)
def test_group_name_differs_between_channels(one: str, other: str) -> None:
    assert (group_name(one, epoch=EPOCH) == group_name(other, epoch=EPOCH)) == (one == other)


@pytest.mark.parametrize("start", ["workflow:" + "x" * length for length in (56, 57, 127)], ids=len)
def test_group_name_differs_between_long_channels_with_equal_beginnings(start: str) -> None:
    groups = {group_name(start + end, epoch=EPOCH) for end in "ab."}
    assert len(groups) == 3
    assert all(len(group) < 100 for group in groups)


@pytest.mark.parametrize("channel", [GLOBAL, "workflow:" + "x" * 128], ids=len)
def test_group_name_differs_between_epochs(channel: str) -> None:
    assert group_name(channel, epoch=EPOCH) != group_name(channel, epoch=EPOCH[::-1])


def error_message_for(channel: str) -> str:
    shown = channel if len(channel) <= 200 else channel[:200] + "…"
    expected = (
        "'global', 'summary', or 'workflow:', 'pool:' or 'worker:' followed by an id "
        "(1 to 128 of the characters A-Z a-z 0-9 . _ -); "
        "for the items of a stage, 'workflow:', the id, '/' and the percent-encoded name of the stage"
    )
    return f"Invalid channel name {shown!r}: expected {expected}"


async def test_every_subscription_request_rejects_an_invalid_channel(server: MahavishnuServer) -> None:
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
                    "INVALID_CHANNEL", error_message_for(channel), event=event, correlation_id=str(number)
                )


async def test_subscribe_accepts_every_valid_channel(server: MahavishnuServer) -> None:
    async with connect(server) as client:
        for channel in VALID:
            answer = await client.request("subscribe", channel=channel)
            data = {"status": "subscribed", "channel": channel}
            assert answer == a_response("subscribe", data, answer["correlation_id"])


async def test_channels_with_the_longest_ids_receive_only_their_own_events(
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
