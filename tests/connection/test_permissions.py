"""The table of permissions over every way in, on the real consumer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction
from django.utils import timezone
from pytest_django import Settings

from orchestration import services
from realtime.auth.identity import EVERYONE, ON_THIS_MACHINE, Identity
from realtime.connection.handlers.permissions import PERMISSIONS, check_rows, forbidden_channels
from realtime.connection.handlers.subscriptions import leave
from realtime.events.receivers import announce_as_given
from realtime.limits import Limits
from realtime.protocol.frames import Frames
from realtime.protocol.requests import REQUESTS, Request
from realtime.protocol.session import encode_session_unsubscribed
from realtime.queries.replay_reads import ReplayReads
from realtime.queries.resume import ReplayChunk
from tests.connection.in_process import TIMEOUT_SECONDS, connected, server_parts
from tests.harness.valkey import Valkey

CHANNELS = (
    "global",
    "summary",
    "workflow:etl-1",
    "workflow:etl-2",
    "workflow:[etl-1]",
    "pool:one",
    "worker:w-1",
    "worker:w-2",
)
GLOBAL = ("global", "summary")
LARGE_EVENTS = 20
WORKFLOWS = ("workflow:etl-1", "workflow:etl-2")
WORKERS = ("worker:w-1", "worker:w-2")
VALID = tuple(channel for channel in CHANNELS if "[" not in channel)

GRANTS: dict[tuple[str, ...], tuple[str, ...]] = {
    (): (),
    ("admin",): VALID,
    ("global:read",): GLOBAL,
    ("workflow:read",): WORKFLOWS,
    ("workflow:read:etl-1",): ("workflow:etl-1",),
    ("workflow:read:etl-*",): WORKFLOWS,
    ("workflow:read:*",): WORKFLOWS,
    ("workflow:read:etl",): (),
    ("workflow:read:ETL-1",): (),
    ("workflow:read:[etl-1]",): (),
    ("workflow:read:*-1",): (),
    ("workflow:read:",): (),
    ("pool:read",): ("pool:one",),
    ("pool:read:one",): ("pool:one",),
    ("pool:read:two", "worker:read:w-1"): ("worker:w-1",),
    ("worker:read",): WORKERS,
    ("worker:read:w-*",): WORKERS,
    ("worker:read:w-2", "workflow:read:etl-2"): ("worker:w-2", "workflow:etl-2"),
    ("metrics:read",): (),
    ("event:write", "operate", "pool:write"): (),
    ("Admin", "ADMIN", "admin ", "*", "*:read"): (),
    EVERYONE.permissions: VALID,
}
"""The channels of `CHANNELS` that each set of permissions opens."""

WAYS: dict[str, dict[str, Any]] = {
    "subscribe": {},
    "subscribe since": {"since": 0},
    "subscribe snapshot": {"snapshot": True},
    "list_events": {},
    "unsubscribe": {},
}

QUERIES = (
    ("get_workflow_status", "workflow_id", "workflow"),
    ("get_workflow", "workflow_id", "workflow"),
    ("list_stages", "workflow_id", "workflow"),
    ("get_stage_result", "workflow_id", "workflow"),
    ("get_pool_status", "pool_id", "pool"),
    ("get_pool_history", "pool_id", "pool"),
    ("list_workers", "pool_id", "pool"),
    ("list_waits", "workflow_id", "workflow"),
)

FURTHER_FIELDS = {"get_stage_result": {"stage_name": "load"}}

OF_ALL = {
    "list_workflows": "workflow:read",
    "list_definitions": "workflow:read",
    "list_pools": "pool:read",
    "list_workers": "worker:read",
    "list_waits": "workflow:read",
    "get_server_status": "metrics:read",
}

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey", "parts")]


@pytest.fixture
async def parts(valkey: Valkey) -> AsyncIterator[None]:
    async with server_parts():
        yield


def identity(*permissions: str) -> Identity:
    return Identity(user_id="u", permissions=permissions)


@pytest.mark.parametrize("permissions", GRANTS)
async def test_every_way_to_a_channel_needs_its_permission(permissions: tuple[str, ...]) -> None:
    expected = {
        channel: "INVALID_CHANNEL" if "[" in channel else None if channel in GRANTS[permissions] else "FORBIDDEN"
        for channel in CHANNELS
    }
    async with connected(identity(*permissions)) as client:
        for way, options in WAYS.items():
            event = way.partition(" ")[0]
            codes = {channel: await client.error_code(event, channel=channel, **options) for channel in CHANNELS}
            assert codes == expected, way


@pytest.mark.parametrize("permissions", GRANTS)
async def test_every_query_needs_the_permission_of_its_resource(permissions: tuple[str, ...]) -> None:
    async with connected(identity(*permissions)) as client:
        for event, field, resource_type in QUERIES:
            for channel in VALID:
                of, _, id = channel.partition(":")
                if of == resource_type:
                    code = await client.error_code(event, **{field: id}, **FURTHER_FIELDS.get(event, {}))
                    assert (code == "FORBIDDEN") is (channel not in GRANTS[permissions]), (event, channel)
        for event, permission in OF_ALL.items():
            code = await client.error_code(event)
            assert (code == "FORBIDDEN") is not bool({permission, "admin"} & set(permissions)), event


async def test_refusal_is_the_same_for_what_exists_and_reads_nothing() -> None:
    await sync_to_async(services.create_pool)(pool_id="there")
    async with connected(identity("pool:read:other")) as client:
        parts = client.consumer.replay_reads, client.consumer.statuses
        # All that reads: a request that asks one of them is answered with SERVER_ERROR.
        client.consumer.replay_reads = client.consumer.statuses = None  # type: ignore[assignment]
        for event, field, format, *options in (
            ("get_pool_status", "pool_id", "{}"),
            ("get_pool_history", "pool_id", "{}"),
            ("list_workers", "pool_id", "{}"),
            ("list_events", "channel", "pool:{}"),
            ("subscribe", "channel", "pool:{}", "since"),
        ):
            further = dict.fromkeys(options, 0)
            answers = [await client.request(event, **{field: format.format(id)}, **further) for id in ("there", "gone")]
            there, gone = ({**answer, "timestamp": "", "correlation_id": "", "id": ""} for answer in answers)
            assert (there["error_code"], there["error_message"]) == ("FORBIDDEN", "No permission to read pool:there")
            assert {**there, "error_message": "No permission to read pool:gone"} == gone
        client.consumer.replay_reads, client.consumer.statuses = parts


async def test_grammar_is_checked_before_the_permission() -> None:
    async with connected(identity()) as client:
        assert await client.error_code("subscribe", channel="planet:mars") == "INVALID_CHANNEL"
        assert await client.error_code("subscribe", channel="workflow:a*") == "INVALID_CHANNEL"
        assert await client.error_code("subscribe") == "INVALID_MESSAGE"


async def test_permission_is_checked_before_limits(settings: Settings) -> None:
    settings.MAHAVISHNU_LIMITS = Limits(max_subscriptions=1)
    async with connected(identity("workflow:read:a")) as client:
        assert await client.error_code("subscribe", channel="workflow:a") is None
        for options in WAYS["subscribe"], WAYS["subscribe since"], WAYS["subscribe snapshot"]:
            assert await client.error_code("subscribe", channel="workflow:b", **options) == "FORBIDDEN"


async def test_many_refusals_close_the_connection(settings: Settings) -> None:
    settings.MAHAVISHNU_LIMITS = Limits(max_forbidden_per_minute=5)
    async with connected(identity()) as client:
        for number in range(5):
            assert await client.error_code("get_workflow_status", workflow_id=f"guess-{number}") == "FORBIDDEN"
        error, close = await client.next(), await client.next()
    assert (error["error_code"], error["error_message"]) == ("FORBIDDEN", "5 requests without permission in a minute")
    assert (close["code"], close["reason"]) == (1008, "FORBIDDEN")


async def test_smaller_permissions_count_from_the_next_request_on() -> None:
    async with connected(ON_THIS_MACHINE) as client:
        assert await client.error_code("subscribe", channel="workflow:a") is None
        client.consumer.identity = identity("workflow:read:b")
        assert await client.error_code("subscribe", channel="workflow:a", since=0) == "FORBIDDEN"
        assert await client.error_code("list_events", channel="workflow:a") == "FORBIDDEN"
        assert await client.error_code("subscribe", channel="workflow:b") is None


async def test_smaller_token_ends_a_replay_whose_next_chunk_is_being_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chunk arrives when the client has been answered that it left the channel."""
    await sync_to_async(announce_large)("workflow:a", LARGE_EVENTS)
    has_left = asyncio.Event()
    read = ReplayReads.chunk

    async def read_and_leave(self: ReplayReads, channel: str, **position: Any) -> ReplayChunk:
        chunk = await read(self, channel, **position)
        leave(client.consumer, channel)
        client.consumer.write(Frames([encode_session_unsubscribed(channel)]))
        has_left.set()
        return chunk

    monkeypatch.setattr(ReplayReads, "chunk", read_and_leave)
    async with connected(ON_THIS_MACHINE) as client:
        await client.request("subscribe", channel="workflow:a", since=0)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await has_left.wait()
        await client.request("get_workflow_status", workflow_id="none")
    names = [message["event"] for message in client.events]
    assert names[-1] == "session.unsubscribed"
    assert 1 < len(names) < LARGE_EVENTS


def announce_large(room: str, count: int) -> None:
    """Announce so many events of 60 KB, which take several chunks of a replay."""
    with transaction.atomic():
        for _ in range(count):
            announce_as_given("workflow.test", data={"x": "x" * 60_000}, rooms=(room,), timestamp=timezone.now())


def test_forbidden_channels_are_those_that_may_not_be_read() -> None:
    assert forbidden_channels(identity("workflow:read:a", "global:read"), {"workflow:b", "workflow:a", "global"}) == [
        "workflow:b"
    ]


def test_request_without_a_row_is_an_error() -> None:
    class MakeCoffee(Request, frozen=True, kw_only=True):
        event = "make_coffee"

    with pytest.raises(LookupError, match="MakeCoffee"):
        check_rows([*REQUESTS.values(), MakeCoffee])


def test_every_row_is_of_a_request() -> None:
    assert set(PERMISSIONS) == set(REQUESTS.values())
