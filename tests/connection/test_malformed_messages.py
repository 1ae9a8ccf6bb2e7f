"""Malformed messages of every kind: each is answered once, and the connection stays open."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection
from websockets.frames import Opcode
from websockets.sync.client import ClientConnection as SyncConnection
from websockets.sync.client import connect as sync_connect

from realtime.protocol.errors import ErrorCode
from realtime.protocol.requests import REQUESTS
from tests.connection.raw_client import frame, text
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.matchers import A_POSITION_OR_NONE, A_TIME, A_UUID, a_pong, a_response, an_error
from tests.harness.server import MahavishnuServer

ANSWER_TIMEOUT_SECONDS = 60

# The error codes that are allowed for malformed messages; any other would be a server fault.
ALLOWED_CODES = {
    ErrorCode.INVALID_MESSAGE,
    ErrorCode.UNKNOWN_REQUEST,
    ErrorCode.INVALID_CHANNEL,
    ErrorCode.NOT_FOUND,
    ErrorCode.TOO_MANY_SUBSCRIPTIONS,
}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(texts, inner, max_size=5)),
    max_leaves=20,
)
"""Any JSON value."""


def usually(*usual: Any) -> st.SearchStrategy[Any]:
    """Return one of the usual values, or any JSON value."""
    return st.one_of(st.sampled_from(usual), values)


ids = usually("w", "pool_local", "x" * 128, "a b", "\x00")
data = st.fixed_dictionaries(
    {},
    optional={
        "channel": usually("global", "workflow:w", "pool:p", "worker:w", "workflow:", "workflow:" + "x" * 129),
        "room": usually("global", "pool:p"),
        "since": usually(0, 1, -1, 2**63 - 1, 2**63, None),
        "epoch": usually("", "0" * 32, None),
        "snapshot": usually(True, False, None),
        "pool_id": ids,
        "workflow_id": ids,
        "extra": values,
    },
)
messages = st.fixed_dictionaries(
    {"type": usually("request", "request", "request", "event", "ping", "response", "error")},
    optional={
        "event": usually(*REQUESTS, *REQUESTS, "restart", ""),
        "data": st.one_of(data, data, values),
        "id": usually("a", ""),
        "correlation_id": usually("b"),
        "room": values,
        "timestamp": values,
    },
)
"""Messages with some valid fields, and any value in the others."""


@st.composite
def damaged_messages(draw: st.DrawFn) -> str:
    """Return the text of a message with a part removed, inserted or repeated."""
    text = json.dumps(draw(messages), ensure_ascii=draw(st.booleans()))
    start, end = sorted(draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
    return text[:start] + draw(st.one_of(texts, st.just(text[start:end] * 2))) + text[end:]


@pytest.fixture(scope="module")
def server(start_shared_server: StartServer) -> Iterator[MahavishnuServer]:
    """Start a server without a rate limit."""
    server = start_shared_server(max_messages_per_second=1_000_000, max_message_burst=1_000_000)
    yield server
    server.close()
    assert "Traceback" not in server.log_text()
    assert "ERROR" not in server.log_text()


@pytest.fixture(scope="module")
def connection(server: MahavishnuServer) -> Iterator[SyncConnection]:
    """Open one connection for all malformed messages; check at the end that it is alive."""
    # The client's own pings would use `random` in another thread, which Hypothesis reports as a fault of the test.
    with sync_connect(server.ws_url, compression=None, max_size=None, ping_interval=None) as connection:
        connection.recv(ANSWER_TIMEOUT_SECONDS)
        yield connection
        connection.send('{"type":"ping","id":"still alive"}')
        assert next_answer(connection) == any_pong("still alive")


def next_answer(connection: SyncConnection) -> Any:
    """Return the next answer. A message may subscribe to channels, so the server may send positions too."""
    while (message := json.loads(connection.recv(ANSWER_TIMEOUT_SECONDS)))["event"] == "session.position":
        pass
    return message


def any_pong(correlation_id: str | None) -> dict[str, Any]:
    return a_pong(correlation_id, data=A_POSITION_OR_NONE)


numbers = itertools.count()


def check_is_answered(connection: SyncConnection, message: str | bytes) -> None:
    """Send `message`, then a ping, and check that each gets one answer. No events are published here."""
    connection.send(message)
    ping_id = f"after {next(numbers)}"
    connection.send(json.dumps({"type": "ping", "id": ping_id}))
    answers = [next_answer(connection) for _ in range(2)]
    # The pong needs no database, so it may come before the answer to a request.
    assert any_pong(ping_id) in answers
    answers.remove(next(answer for answer in answers if answer.get("correlation_id") == ping_id))
    check_is_an_answer(answers[0])


def check_is_an_answer(answer: dict[str, Any]) -> None:
    optional = answer.get("correlation_id")
    if answer["type"] == "response":
        assert answer == a_response(answer["event"], answer["data"], optional)
        assert answer["event"] in REQUESTS
    elif answer["type"] == "pong":
        assert answer == any_pong(optional)
    else:
        assert answer == an_error(
            answer["error_code"], answer["error_message"], event=answer["event"], correlation_id=optional
        )
        assert answer["error_code"] in ALLOWED_CODES
        assert 0 < len(answer["error_message"]) < 1000


malformed_settings = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@malformed_settings
@given(messages)
def test_message_with_any_value_in_any_field_is_answered(connection: SyncConnection, message: dict[str, Any]) -> None:
    check_is_answered(connection, json.dumps(message))


@malformed_settings
@given(st.one_of(values.map(json.dumps), values.map(lambda value: json.dumps(value, ensure_ascii=False))))
def test_any_json_is_answered(connection: SyncConnection, text: str) -> None:
    check_is_answered(connection, text)


@malformed_settings
@given(damaged_messages())
def test_damaged_message_is_answered(connection: SyncConnection, text: str) -> None:
    check_is_answered(connection, text)


@malformed_settings
@given(texts)
def test_any_text_is_answered(connection: SyncConnection, text: str) -> None:
    check_is_answered(connection, text)


@malformed_settings
@given(st.binary(max_size=300))
def test_any_binary_message_is_answered(connection: SyncConnection, message: bytes) -> None:
    check_is_answered(connection, message)


@pytest.mark.chaos
@settings(malformed_settings, max_examples=3000)
@given(st.one_of(messages.map(json.dumps), values.map(json.dumps), damaged_messages(), texts, st.binary(max_size=300)))
def test_thousands_of_generated_messages_are_answered(connection: SyncConnection, message: str | bytes) -> None:
    check_is_answered(connection, message)


MAX_MESSAGE_BYTES = 65_536

HUGE = {
    "spaces": " " * MAX_MESSAGE_BYTES,
    "zeros": "\x00" * MAX_MESSAGE_BYTES,
    "open arrays": "[" * MAX_MESSAGE_BYTES,
    "arrays": "[" * (MAX_MESSAGE_BYTES // 2) + "]" * (MAX_MESSAGE_BYTES // 2),
    "open objects": '{"a":' * (MAX_MESSAGE_BYTES // 5),
    "a long number": "9" * MAX_MESSAGE_BYTES,
    "a long fraction": "0." + "9" * (MAX_MESSAGE_BYTES - 2),
    "a large exponent": "1e" + "9" * (MAX_MESSAGE_BYTES - 2),
    "a long since": '{"type":"request","event":"subscribe","data":{"channel":"global","since":%s}}' % ("9" * 60_000),
    "a long text": f'"{"x" * (MAX_MESSAGE_BYTES - 2)}"',
    "many escapes": '"' + "\\u0000" * 10_000 + '"',
    "many fields": "{" + ",".join(f'"{number}":0' for number in range(6_000)) + "}",
    "one field many times": "{" + ",".join(['"type":"ping"'] * 4_000) + "}",
    "a long id": json.dumps({"type": "ping", "id": "x" * 60_000}),
    "a long name": json.dumps({"type": "request", "event": "x" * 60_000, "data": {}}),
    "a long type": json.dumps({"type": "x" * 60_000}),
    "a long channel": json.dumps({"type": "request", "event": "subscribe", "data": {"channel": "x" * 60_000}}),
}


@pytest.mark.parametrize("message", HUGE.values(), ids=HUGE)
def test_message_of_the_maximum_size_is_answered(connection: SyncConnection, message: str) -> None:
    assert len(message.encode()) <= MAX_MESSAGE_BYTES
    check_is_answered(connection, message)
    check_is_answered(connection, message.encode())


def test_thousands_of_messages_at_once_are_each_answered(connection: SyncConnection) -> None:
    malformed: list[str | bytes] = [
        "",
        "[]",
        "{}",
        b"\xff",
        '{"type":"ping"}',
        '{"type":"request","event":"get_pool_status","data":{"pool_id":"p"}}',
    ]
    count = 500
    for _ in range(count):
        for message in malformed:
            connection.send(message)
    answers = [next_answer(connection) for _ in range(count * len(malformed))]
    for answer in answers:
        check_is_an_answer(answer)
    assert sum(answer["type"] == "pong" for answer in answers) == count
    assert sum(answer.get("error_code") == "NOT_FOUND" for answer in answers) == count


# --- Frames ------------------------------------------------------------------------------------------------------


async def test_fragmented_message_is_answered_once(server: MahavishnuServer) -> None:
    async with connect(server) as client:
        fragments = [text("{", fin=False), *(frame(Opcode.CONT, bytes([byte]), fin=False) for byte in b'"type":"ping"')]
        write_raw(client.connection, b"".join([*fragments, frame(Opcode.CONT, b"}")]))
        assert await client.next() == a_pong()


async def test_connection_lost_within_a_frame_affects_no_other(server: MahavishnuServer) -> None:
    async with connect(server) as client:
        write_raw(client.connection, text("x" * 1000)[:500])
        await asyncio.sleep(0)
        client.connection.transport.abort()
    async with connect(server) as client:
        assert (client.welcome["id"], client.welcome["timestamp"]) == (A_UUID, A_TIME)


def write_raw(connection: ClientConnection, data: bytes) -> None:
    """Write bytes that the client library would not send."""
    connection.transport.write(data)
