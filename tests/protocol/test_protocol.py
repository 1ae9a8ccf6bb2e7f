"""What the decoder makes of every kind of text, and what the encoder makes of messages. No server, no I/O."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.messages import (
    EventRecord,
    Subscribed,
    encode_error,
    encode_event,
    encode_notice,
    encode_pong,
    encode_response,
    encode_session_created,
)
from realtime.protocol.payload import decode_object, encode_data
from realtime.protocol.requests import (
    MAX_SEQ,
    REQUESTS,
    GetPoolStatus,
    GetWorkflowStatus,
    Incoming,
    Request,
    Subscribe,
    Unsubscribe,
    decode,
)
from tests.harness.matchers import A_TIME, A_UUID, a_pong, a_response, an_error, an_event


def request_text(event: str, data: Any, **fields: Any) -> str:
    return json.dumps({"type": "request", "event": event, "data": data, **fields})


READABLE: dict[str, tuple[str, Request | None, str, str | None]] = {
    "subscribe": (
        request_text("subscribe", {"channel": "global"}, id="a"),
        Subscribe(channel="global"),
        "subscribe",
        "a",
    ),
    "everything a subscribe can have": (
        request_text("subscribe", {"channel": "global", "since": MAX_SEQ, "epoch": "e", "snapshot": True}),
        Subscribe(channel="global", since=MAX_SEQ, epoch="e", snapshot=True),
        "subscribe",
        None,
    ),
    "null where nothing is meant": (
        request_text("subscribe", {"channel": "global", "since": None, "epoch": None}, id=None, correlation_id=None),
        Subscribe(channel="global"),
        "subscribe",
        None,
    ),
    "unsubscribe": (
        request_text("unsubscribe", {"channel": "global"}),
        Unsubscribe(channel="global"),
        "unsubscribe",
        None,
    ),
    "get_pool_status": (
        request_text("get_pool_status", {"pool_id": "p"}),
        GetPoolStatus(pool_id="p"),
        "get_pool_status",
        None,
    ),
    "get_workflow_status": (
        request_text("get_workflow_status", {"workflow_id": "w"}),
        GetWorkflowStatus(workflow_id="w"),
        "get_workflow_status",
        None,
    ),
    "the id goes before the correlation_id": (
        request_text("unsubscribe", {"channel": "global"}, id="a", correlation_id="b"),
        Unsubscribe(channel="global"),
        "unsubscribe",
        "a",
    ),
    "the correlation_id where there is no id": (
        request_text("unsubscribe", {"channel": "global"}, correlation_id="b"),
        Unsubscribe(channel="global"),
        "unsubscribe",
        "b",
    ),
    "an empty id is an id": (
        request_text("unsubscribe", {"channel": "global"}, id="", correlation_id="b"),
        Unsubscribe(channel="global"),
        "unsubscribe",
        "",
    ),
    "fields nobody knows": (
        request_text("unsubscribe", {"channel": "global", "more": [1]}, timestamp="2026", room="x", extra={"a": None}),
        Unsubscribe(channel="global"),
        "unsubscribe",
        None,
    ),
    "spaces and lines around it": (
        f"\n\t {request_text('unsubscribe', {'channel': 'global'})}\r\n",
        Unsubscribe(channel="global"),
        "unsubscribe",
        None,
    ),
    "the last of two fields of one name": (
        '{"type":"ping","type":"request","event":"unsubscribe","data":{"channel":"a","channel":"b"}}',
        Unsubscribe(channel="b"),
        "unsubscribe",
        None,
    ),
    "any text in a channel name": (
        request_text("unsubscribe", {"channel": "\U0001f600\x00é"}),
        Unsubscribe(channel="\U0001f600\x00é"),
        "unsubscribe",
        None,
    ),
    "subscribe as an event with a room": (
        '{"type":"event","event":"subscribe","data":{"room":"global"},"id":"a"}',
        Subscribe(channel="global"),
        "subscribe",
        "a",
    ),
    "unsubscribe as an event with a room": (
        '{"type":"event","event":"unsubscribe","data":{"room":"global"}}',
        Unsubscribe(channel="global"),
        "unsubscribe",
        None,
    ),
    "ping": ('{"type":"ping"}', None, "ping", None),
    "ping with an id": ('{"type":"ping","id":"a","data":null}', None, "ping", "a"),
}


@pytest.mark.parametrize(("text", "request_", "event", "correlation_id"), READABLE.values(), ids=READABLE)
def test_a_message_is_read(text: str, request_: Request | None, event: str, correlation_id: str | None) -> None:
    assert decode(text) == Incoming(request=request_, event=event, correlation_id=correlation_id)


def test_every_request_of_the_table_is_one_that_is_read() -> None:
    assert {type(request) for _, request, _, _ in READABLE.values()} == {*REQUESTS.values(), type(None)}


def unreadable(message: str, event: str | None = None, correlation_id: str | None = None) -> tuple[Any, ...]:
    return (ErrorCode.INVALID_MESSAGE, message, event, correlation_id)


def bad_data(data: Any, message: str, event: str = "subscribe") -> tuple[str, tuple[Any, ...]]:
    return request_text(event, data, id="a"), unreadable(message, event, "a")


NOT_JSON = "The message is not valid JSON: "
KNOWN_REQUESTS = "subscribe, unsubscribe, get_pool_status, get_workflow_status"

REFUSED: dict[str, tuple[str, tuple[Any, ...]]] = {
    # Not JSON.
    "nothing": ("", unreadable(f"{NOT_JSON}Input data was truncated")),
    "space": ("   ", unreadable(f"{NOT_JSON}Input data was truncated")),
    "cut off": ('{"type":"requ', unreadable(f"{NOT_JSON}Input data was truncated")),
    "a word": ("hello", unreadable(f"{NOT_JSON}JSON is malformed: invalid character (byte 0)")),
    "NaN": ("NaN", unreadable(f"{NOT_JSON}JSON is malformed: invalid character (byte 0)")),
    "two messages in one": (
        '{"type":"ping"}{"type":"ping"}',
        unreadable(f"{NOT_JSON}JSON is malformed: trailing characters (byte 16)"),
    ),
    "single quotes": (
        "{'type':'ping'}",
        unreadable(f"{NOT_JSON}JSON is malformed: object keys must be strings (byte 1)"),
    ),
    "a comma too many": (
        '{"type":"ping",}',
        unreadable(f"{NOT_JSON}JSON is malformed: trailing comma in object (byte 15)"),
    ),
    "half a character": (
        '{"type":"\\ud800","id":"a"}',
        unreadable(f"{NOT_JSON}JSON is malformed: unexpected end of escaped utf-16 surrogate pair (byte 15)"),
    ),
    "arrays in arrays": ("[" * 60_000, unreadable(f"{NOT_JSON}nested too deeply")),
    "objects in objects": ('{"a":' * 10_000, unreadable(f"{NOT_JSON}nested too deeply")),
    "a field nested too deeply": (
        '{"type":"request","x":' + "[" * 20_000 + "]" * 20_000 + "}",
        unreadable(f"{NOT_JSON}nested too deeply"),
    ),
    "data nested too deeply": (
        '{"type":"request","event":"subscribe","data":' + "[" * 20_000 + "]" * 20_000 + "}",
        unreadable(f"{NOT_JSON}nested too deeply"),
    ),
    # No object.
    "an array": ("[]", unreadable("Expected a JSON object, got an array")),
    "an array of messages": ('[{"type":"ping"}]', unreadable("Expected a JSON object, got an array")),
    "a text": ('"ping"', unreadable("Expected a JSON object, got a string")),
    "a whole number": ("1", unreadable("Expected a JSON object, got a number")),
    "a fraction": ("-1.5e3", unreadable("Expected a JSON object, got a number")),
    "true": ("true", unreadable("Expected a JSON object, got a boolean")),
    "null": ("null", unreadable("Expected a JSON object, got null")),
    # The envelope.
    "an empty object": ("{}", unreadable("Object missing required field `type`")),
    "no type, but an id": ('{"id":"a","event":"x"}', unreadable("Object missing required field `type`", "x", "a")),
    "a number as type": ('{"type":1,"id":"a"}', unreadable("Expected `str`, got `int` in `type`", None, "a")),
    "null as type": ('{"type":null}', unreadable("Expected `str`, got `null` in `type`")),
    "a number as id": (
        '{"type":"ping","id":5,"correlation_id":"b"}',
        unreadable("Expected `str | null`, got `int` in `id`", None, "b"),
    ),
    "an object as correlation_id": (
        '{"type":"ping","id":"a","correlation_id":{}}',
        unreadable("Expected `str | null`, got `object` in `correlation_id`", None, "a"),
    ),
    "an array as event": (
        '{"type":"request","event":["x"],"id":"a"}',
        unreadable("Expected `str | null`, got `array` in `event`", None, "a"),
    ),
    "an unknown type": (
        '{"type":"hello","event":"x","id":"a"}',
        unreadable("Unknown message type 'hello': expected 'request' or 'ping'", "x", "a"),
    ),
    "a long unknown type": (
        json.dumps({"type": "é" * 5000}),
        unreadable(f"Unknown message type '{'é' * 100}…': expected 'request' or 'ping'"),
    ),
    "a response": (
        '{"type":"response","event":"subscribe","data":{}}',
        unreadable("Unknown message type 'response': expected 'request' or 'ping'", "subscribe"),
    ),
    "an error": ('{"type":"error"}', unreadable("Unknown message type 'error': expected 'request' or 'ping'")),
    "an event": (
        '{"type":"event","event":"workflow.started","data":{"workflow_id":"w"},"id":"a"}',
        unreadable("Clients cannot publish events: expected type 'request' or 'ping'", "workflow.started", "a"),
    ),
    "an event without a name": (
        '{"type":"event"}',
        unreadable("Clients cannot publish events: expected type 'request' or 'ping'"),
    ),
    # The request.
    "a request without an event": (
        '{"type":"request","data":{},"id":"a"}',
        unreadable("A request needs a field `event`, of type string", None, "a"),
    ),
    "an unknown request": (
        request_text("restart", {}, id="a"),
        (ErrorCode.UNKNOWN_REQUEST, f"Unknown request 'restart': expected one of {KNOWN_REQUESTS}", "restart", "a"),
    ),
    "an unknown request without data": (
        '{"type":"request","event":""}',
        (ErrorCode.UNKNOWN_REQUEST, f"Unknown request '': expected one of {KNOWN_REQUESTS}", "", None),
    ),
    "the name in other letters": (
        request_text("Subscribe", {"channel": "global"}),
        (
            ErrorCode.UNKNOWN_REQUEST,
            f"Unknown request 'Subscribe': expected one of {KNOWN_REQUESTS}",
            "Subscribe",
            None,
        ),
    ),
    "no data": (
        '{"type":"request","event":"subscribe","id":"a"}',
        unreadable("A request needs a field `data`, of type object", "subscribe", "a"),
    ),
    # Its data.
    "null as data": bad_data(None, "Expected `object`, got `null` in `data`"),
    "an array as data": bad_data([], "Expected `object`, got `array` in `data`"),
    "a text as data": bad_data("global", "Expected `object`, got `str` in `data`"),
    "no channel": bad_data({}, "Object missing required field `channel` in `data`"),
    "a number as channel": bad_data({"channel": 1}, "Expected `str`, got `int` in `data.channel`"),
    "null as channel": bad_data({"channel": None}, "Expected `str`, got `null` in `data.channel`"),
    "an array as channel": bad_data({"channel": ["global"]}, "Expected `str`, got `array` in `data.channel`"),
    "a negative since": bad_data({"channel": "global", "since": -1}, "Expected `int` >= 0 in `data.since`"),
    "a since that no log can have": bad_data(
        {"channel": "global", "since": MAX_SEQ + 1}, f"Expected `int` <= {MAX_SEQ} in `data.since`"
    ),
    "a since beyond all numbers": bad_data(
        {"channel": "global", "since": 10**300}, f"Expected `int` <= {MAX_SEQ} in `data.since`"
    ),
    "a fraction as since": bad_data(
        {"channel": "global", "since": 1.5}, "Expected `int | null`, got `float` in `data.since`"
    ),
    "a text as since": bad_data(
        {"channel": "global", "since": "1"}, "Expected `int | null`, got `str` in `data.since`"
    ),
    "true as since": bad_data(
        {"channel": "global", "since": True}, "Expected `int | null`, got `bool` in `data.since`"
    ),
    "a number as epoch": bad_data(
        {"channel": "global", "epoch": 1}, "Expected `str | null`, got `int` in `data.epoch`"
    ),
    "a number as snapshot": bad_data(
        {"channel": "global", "snapshot": 1}, "Expected `bool`, got `int` in `data.snapshot`"
    ),
    "null as snapshot": bad_data(
        {"channel": "global", "snapshot": None}, "Expected `bool`, got `null` in `data.snapshot`"
    ),
    "unsubscribe without a channel": bad_data(
        {"room": "global"}, "Object missing required field `channel` in `data`", "unsubscribe"
    ),
    "no pool_id": bad_data({}, "Object missing required field `pool_id` in `data`", "get_pool_status"),
    "a number as pool_id": bad_data({"pool_id": 1}, "Expected `str`, got `int` in `data.pool_id`", "get_pool_status"),
    "no workflow_id": bad_data({}, "Object missing required field `workflow_id` in `data`", "get_workflow_status"),
    "an object as workflow_id": bad_data(
        {"workflow_id": {}}, "Expected `str`, got `object` in `data.workflow_id`", "get_workflow_status"
    ),
    "subscribe as an event without data": (
        '{"type":"event","event":"subscribe","id":"a"}',
        unreadable("A request needs a field `data`, of type object", "subscribe", "a"),
    ),
    "subscribe as an event with a channel": (
        '{"type":"event","event":"subscribe","data":{"channel":"global"}}',
        unreadable("Object missing required field `room` in `data`", "subscribe"),
    ),
    "subscribe as an event with a number as room": (
        '{"type":"event","event":"subscribe","data":{"room":7}}',
        unreadable("Expected `str`, got `int` in `data.room`", "subscribe"),
    ),
}


@pytest.mark.parametrize(("text", "expected"), REFUSED.values(), ids=REFUSED)
def test_a_message_is_refused_with_what_was_wrong(text: str, expected: tuple[Any, ...]) -> None:
    with pytest.raises(RequestError) as refusal:
        decode(text)
    error = refusal.value
    assert (error.code, error.message, error.event, error.correlation_id) == expected


AT = datetime(2026, 2, 10, 20, 0, 0, tzinfo=UTC)


def test_an_event_is_encoded_with_its_data_as_stored() -> None:
    event = EventRecord(7, "6f1ab3c6-4a2e-4a5e-8f0c-1f3f5c0a9f11", "workflow.started", AT, '{"é":[1,null]}')
    assert json.loads(encode_event(event, room="global")) == {
        "id": "6f1ab3c6-4a2e-4a5e-8f0c-1f3f5c0a9f11",
        "type": "event",
        "event": "workflow.started",
        "data": {"é": [1, None]},
        "timestamp": "2026-02-10T20:00:00Z",
        "room": "global",
        "seq": 7,
    }


def test_a_replayed_event_says_so() -> None:
    event = EventRecord(7, "6f1ab3c6-4a2e-4a5e-8f0c-1f3f5c0a9f11", "pool.closed", AT, "{}")
    assert json.loads(encode_event(event, room="pool:p", replay=True)) == an_event(
        "pool.closed", {}, room="pool:p", replay=True
    )


def test_the_welcome_is_the_reference_s_with_the_log_s_position() -> None:
    assert json.loads(encode_session_created("c", epoch="e", seq=3)) == {
        "id": A_UUID,
        "type": "event",
        "event": "session.created",
        "data": {
            "connection_id": "c",
            "epoch": "e",
            "seq": 3,
            "server": "mahavishnu",
            "message": "Connected to Mahavishnu orchestration",
        },
        "timestamp": A_TIME,
    }


def test_a_notice_belongs_to_no_room_and_has_no_seq() -> None:
    assert json.loads(encode_notice("session.draining", {"a": 1})) == {
        "id": A_UUID,
        "type": "event",
        "event": "session.draining",
        "data": {"a": 1},
        "timestamp": A_TIME,
    }


@pytest.mark.parametrize("correlation_id", [None, "", "a"])
def test_an_answer_is_filed_where_the_question_said(correlation_id: str | None) -> None:
    subscribed = {"status": "subscribed", "channel": "global"}
    answers = (
        encode_response("subscribe", Subscribed(channel="global"), correlation_id),
        encode_pong(correlation_id),
        encode_error(RequestError(ErrorCode.NOT_FOUND, "No", event="x", correlation_id=correlation_id)),
    )
    assert [json.loads(answer) for answer in answers] == [
        a_response("subscribe", subscribed, correlation_id),
        a_pong(correlation_id),
        an_error("NOT_FOUND", "No", event="x", correlation_id=correlation_id),
    ]


def test_an_error_of_no_request_in_particular_has_a_name_and_says_when_to_try_again() -> None:
    error = RequestError(ErrorCode.RATE_LIMIT_EXCEEDED, "Slower")
    assert json.loads(encode_error(error, retryable=True, retry_after_ms=9)) == an_error(
        "RATE_LIMIT_EXCEEDED", "Slower", event="error", retryable=True, retry_after_ms=9
    )


def test_ids_are_never_the_same_twice() -> None:
    assert json.loads(encode_pong(None))["id"] != json.loads(encode_pong(None))["id"]


def test_data_comes_back_as_it_went_in() -> None:
    data = {"result": {"é": [1, 2.5, None, True, "x"]}, "at": "2026-02-10T20:00:00Z"}
    assert decode_object(encode_data({**data, "at": AT})) == data


@pytest.mark.parametrize("text", ["", "[]", "1", "{", '{"a":' * 10_000])
def test_a_line_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested too deeply|Expected `object`|truncated|malformed"):
        decode_object(text)
