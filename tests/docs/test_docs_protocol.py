"""Every example of `docs/protocol.md`, sent to a real server or received from it, and every row of its tables."""

from __future__ import annotations

import asyncio
import json

import pytest

from orchestration.bounds import KIB, MIB
from orchestration.limits import EngineLimits
from orchestration.stream_keys import MAX_CHUNK_BYTES
from realtime.events.types import EVENT_TYPES
from realtime.limits import Limits
from realtime.protocol.channels import RESOURCE_TYPES
from realtime.protocol.errors import CloseCode
from realtime.protocol.requests import (
    MAX_EVENT_NAMES,
    MAX_LISTED_EVENTS,
    MAX_LISTED_ROWS,
    MAX_SEARCH_CHARACTERS,
    REQUESTS,
)
from realtime.protocol.stream_messages import is_stream_channel
from realtime.queries.event_pages import MAX_EXAMINED_EVENTS
from realtime.queries.pages import EXAMINED_ROW_BYTES, MAX_EXAMINED_ROWS
from realtime.queries.replay_reads import TURNS_BY_DATABASE
from realtime.queries.snapshots import MAX_SNAPSHOT_ROWS
from realtime.queries.workflow_counts import MAX_COUNTED_WORKFLOWS
from realtime.queries.workflow_filters import MAX_SEARCHED_CHARACTERS
from realtime.queries.workflow_pages import MAX_ERROR_CHARACTERS, MAX_PROMPT_CHARACTERS
from realtime.streams.stream_reader import PART_BYTES
from tests.docs.example_run import call_in
from tests.docs.markdown import Block, blocks, headings, page, table
from tests.docs.message_comparison import comparable
from tests.harness.client import Message, connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

PROTOCOL = page("docs/protocol.md")
# `test_docs_authentication` sends these to a server that requires tokens.
WITH_TOKEN = ("auth", "refresh_token")
EXCHANGES = [
    block
    for block in blocks(PROTOCOL, language="json")
    if block.role in ("send", "receive") and block.section not in WITH_TOKEN
]
STREAM = "stream:{workflow}/{stage}/{name}"
EVENTS = blocks(PROTOCOL, language="json", role="event")
NOTICES = blocks(PROTOCOL, language="json", role="notice")


@pytest.fixture(scope="module")
def example_events(start_module_server: StartServer) -> tuple[MahavishnuServer, list[Message]]:
    """Provide a server after the example run, and the events it sent to each channel of the event examples."""
    server = start_module_server(started=False)
    call_in(server, "reset_log")
    server.start()
    return server, asyncio.run(collect_example_events(server))


async def collect_example_events(server: MahavishnuServer) -> list[Message]:
    channels = {block.message["room"] for block in EVENTS}
    async with connect(server) as client:
        for channel in channels:
            await client.subscribe(channel)
        newest = await asyncio.to_thread(
            call_in, server, "run_example", *filter(None, (block.cause for block in EVENTS))
        )
        received: list[Message] = []
        awaited = {(channel, newest[channel]) for channel in channels}
        while awaited:
            received.append(await client.event())
            awaited.discard((received[-1]["room"], received[-1]["seq"]))
        return received


def test_snapshot_bound_is_documented() -> None:
    assert f"up to {MAX_SNAPSHOT_ROWS} unfinished workflows and up to {MAX_SNAPSHOT_ROWS} pools" in PROTOCOL.read_text(
        encoding="utf-8"
    )


# --- Examples ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", dict.fromkeys(block.section for block in EXCHANGES))
async def test_documented_exchange_matches_the_server(
    example_events: tuple[MahavishnuServer, list[Message]], section: str
) -> None:
    expected = [block for block in EXCHANGES if block.section == section]
    async with connect(example_events[0]) as client:
        if expected[0].role == "receive":
            assert_same(expected.pop(0), client.welcome)
        for block in expected:
            if block.role == "send":
                await client.send_raw(block.text)
            else:
                assert_same(block, await client.next())
        await client.send({"type": "ping", "id": "the end"})
        assert (await client.next())["correlation_id"] == "the end"


def assert_same(block: Block, received: Message) -> None:
    documented = comparable(block.message, exact_seq=True)
    assert comparable(received, exact_seq=True) == documented, block.where


@pytest.mark.parametrize("block", EVENTS, ids=lambda block: block.section)
def test_documented_event_matches_the_server(
    example_events: tuple[MahavishnuServer, list[Message]], block: Block
) -> None:
    documented = comparable(block.message, exact_seq=False)
    assert documented["event"] == block.section
    alike = [
        comparable(message, exact_seq=False)
        for message in example_events[1]
        if (message["event"], message["room"]) == (documented["event"], documented["room"])
    ]
    assert documented in alike, f"{block.where}: received {json.dumps(alike, indent=2)}"


async def test_documented_position_matches_the_server(
    example_events: tuple[MahavishnuServer, list[Message]],
) -> None:
    (documented,) = [block for block in NOTICES if block.section == "session.position"]
    async with connect(example_events[0]) as client:
        await client.subscribe("workflow:wf_abc123")
        await client.subscribe("workflow:wf_report")
        while not client.positions:
            await client.send({"type": "ping", "id": "any"})
            pong = await client.next()
            await asyncio.sleep(0.05)
        assert_same(documented, client.positions[0])
        # Pongs have the same data.
        assert pong["data"] == client.positions[0]["data"]


def test_every_json_example_has_a_tested_role() -> None:
    for block in blocks(PROTOCOL, language="json"):
        assert block.role in ("send", "receive", "event", "notice"), block.where


# --- Tables ------------------------------------------------------------------------------------------------------


def test_every_event_is_listed_with_its_channels_and_an_example() -> None:
    listed = {row["Event"]: row["Channels"] for row in table(PROTOCOL, first="Event")}
    assert listed == {name: ", ".join(kind.rooms_from) for name, kind in EVENT_TYPES.items()}
    assert sorted(block.section for block in EVENTS) == sorted(EVENT_TYPES)


def test_every_channel_type_is_listed() -> None:
    assert is_stream_channel(STREAM)
    listed = [row["Channel"] for row in table(PROTOCOL, first="Channel")]
    resources = [f"{resource_type}:{{id}}" for resource_type in RESOURCE_TYPES]
    assert listed == [resources[0], "workflow:{id}/{stage}", *resources[1:], "global", "summary", STREAM]


def test_every_request_is_listed_with_its_fields() -> None:
    listed = {row["Request"]: row["data"] for row in table(PROTOCOL, first="Request")}
    assert list(listed) == list(REQUESTS)
    for name, data in listed.items():
        fields = data.replace("optional ", "").replace(";", ",")
        assert list(filter(None, fields.split(", "))) == list(REQUESTS[name].__struct_encode_fields__)
    assert set(REQUESTS) <= set(headings(PROTOCOL))


def test_every_close_code_is_listed() -> None:
    ours = {value for name, value in vars(CloseCode).items() if not name.startswith("_")}
    from_the_websocket_rfc = {1002, 1007}
    assert {int(row["Code"]) for row in table(PROTOCOL, first="Code")} == ours | from_the_websocket_rfc


def test_every_limit_is_listed_with_its_default() -> None:
    limits = Limits()
    shown = {row["What"]: row["How much"].partition(";")[0] for row in table(PROTOCOL, first="What")}
    assert shown == {
        "Connections": f"{limits.max_connections}",
        "Messages from one connection": f"{limits.max_messages_per_second:g} a second, "
        f"{limits.max_message_burst} at once",
        "Messages from all clients together": f"{limits.max_total_messages_per_second:g} a second",
        "Size of a message from a client": f"{limits.max_message_bytes // KIB} KiB",
        "Connections from one address": f"{limits.max_connections_per_address}",
        "New connections from one address": (
            f"{limits.max_connects_per_second:g} a second, {limits.max_connect_burst} at once"
        ),
        "Subscriptions of one connection": f"{limits.max_subscriptions}",
        "Streams that the clients of one process read": f"{limits.max_followed_streams}",
        "Requests of one connection being answered": f"{limits.max_requests_in_flight}",
        "Time for one request": f"{limits.request_timeout_seconds:g} s",
        "Missed events one since may replay": f"{limits.max_replay_events:,}",
        "Replays, snapshots and lists of one connection": f"{limits.max_replay_bytes_per_second / MIB:g} MiB a second, "
        f"{limits.max_replay_burst_bytes // MIB} MiB at once",
        "Missed events sent before the client reads them": f"{limits.replay_chunk_bytes // KIB} KiB, or one event",
        "Replays, snapshots and lists read at the same time": "{sqlite} on SQLite, {postgresql} on Postgres".format(
            **TURNS_BY_DATABASE
        ),
        "Stages in one page of list_stages": f"{MAX_LISTED_ROWS}, in {limits.max_event_data_bytes // KIB} KiB",
        "Stages that one page of list_stages examines": f"{MAX_EXAMINED_ROWS}",
        "Size of one result in get_stage_result": f"{limits.max_replay_burst_bytes // MIB} MiB",
        "Workflows, pools, workers or waits in one page": f"{MAX_LISTED_ROWS}, "
        f"in {limits.replay_chunk_bytes // KIB} KiB",
        "Workflows, pools, workers or waits that one page examines": f"{MAX_EXAMINED_ROWS}",
        "Workflows counted by list_workflows": f"{MAX_COUNTED_WORKFLOWS:,} of each status",
        "Events in one page of list_events": f"{MAX_LISTED_EVENTS}, in {limits.replay_chunk_bytes // KIB} KiB",
        "Events that one page of list_events examines": f"{MAX_EXAMINED_EVENTS}",
        "Unsent bytes for one connection": f"{limits.max_send_queue_bytes // MIB} MiB",
        "Unsent bytes for one connection, even in a burst": f"{limits.max_burst_bytes // MIB} MiB",
        "Time in which a client reads nothing": f"{limits.send_stall_seconds:g} s",
        "Size of the chunks that are joined in one stream.chunk": (
            f"{MAX_CHUNK_BYTES // KIB} KiB, or {PART_BYTES // KIB} KiB of what was written before"
        ),
        "Size of a stream that is stored": f"{EngineLimits().max_stream_bytes // MIB} MiB",
        "An event's data": f"{limits.max_event_data_bytes // KIB} KiB",
        "Age and number of events in the log": f"{limits.max_log_age_seconds / 86400:g} days, "
        f"{limits.max_log_events:,}",
    }


def test_price_and_bound_of_examined_stages_are_stated() -> None:
    text = " ".join(PROTOCOL.read_text(encoding="utf-8").split())
    assert f"{EXAMINED_ROW_BYTES} bytes for each stage that is examined or counted" in text
    assert f"examines at most {MAX_EXAMINED_ROWS:,} stages" in text


def test_bounds_of_lists_are_stated() -> None:
    text = " ".join(PROTOCOL.read_text(encoding="utf-8").split())
    assert f"in its first {MAX_SEARCHED_CHARACTERS:,} characters" in text
    assert f"At most {MAX_SEARCH_CHARACTERS} characters" in text
    assert f"its `prompt` ({MAX_PROMPT_CHARACTERS} characters) and its `error` ({MAX_ERROR_CHARACTERS:,}" in text
    assert f"examines at most {MAX_EXAMINED_ROWS:,} workflows" in text
    assert f"{EXAMINED_ROW_BYTES} for each workflow that is examined or counted" in text
    counted = f"only the newest {MAX_COUNTED_WORKFLOWS:,} workflows of that name or pool"
    assert f"{counted} are counted, and with `q` only the newest {MAX_EXAMINED_ROWS:,}" in text
    assert f"one of these names, at most {MAX_EVENT_NAMES}" in text
    assert f"examines at most {MAX_EXAMINED_EVENTS:,} events" in text
