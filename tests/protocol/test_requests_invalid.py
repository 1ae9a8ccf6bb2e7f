"""`decode()` with invalid messages: the error code, the text, and the request they name. No server, no I/O."""

from __future__ import annotations

import json
from typing import Any

import pytest

from realtime.protocol.decoder import decode
from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.requests import MAX_SEQ, REQUESTS
from tests.protocol.test_requests_decode import request_text


def invalid_message(message: str, event: str | None = None, correlation_id: str | None = None) -> tuple[Any, ...]:
    return (ErrorCode.INVALID_MESSAGE, message, event, correlation_id)


def bad_data(data: Any, message: str, event: str = "subscribe") -> tuple[str, tuple[Any, ...]]:
    return request_text(event, data, id="a"), invalid_message(message, event, "a")


NOT_JSON = "The message is not valid JSON: "
KNOWN_REQUESTS = ", ".join(REQUESTS)

INVALID: dict[str, tuple[str, tuple[Any, ...]]] = {
    # Not JSON.
    "nothing": ("", invalid_message(f"{NOT_JSON}Input data was truncated")),
    "space": ("   ", invalid_message(f"{NOT_JSON}Input data was truncated")),
    "truncated": ('{"type":"requ', invalid_message(f"{NOT_JSON}Input data was truncated")),
    "a word": ("hello", invalid_message(f"{NOT_JSON}invalid character (byte 0)")),
    "NaN": ("NaN", invalid_message(f"{NOT_JSON}invalid character (byte 0)")),
    "two messages in one": (
        '{"type":"ping"}{"type":"ping"}',
        invalid_message(f"{NOT_JSON}trailing characters (byte 16)"),
    ),
    "single quotes": (
        "{'type':'ping'}",
        invalid_message(f"{NOT_JSON}object keys must be strings (byte 1)"),
    ),
    "a trailing comma": (
        '{"type":"ping",}',
        invalid_message(f"{NOT_JSON}trailing comma in object (byte 15)"),
    ),
    "half a surrogate pair": (
        '{"type":"\\ud800","id":"a"}',
        invalid_message(f"{NOT_JSON}unexpected end of escaped utf-16 surrogate pair (byte 15)"),
    ),
    "a lone surrogate": (
        '{"type":"\ud800"}',
        invalid_message(
            f"{NOT_JSON}'utf-8' codec can't encode character '\\ud800' in position 9: surrogates not allowed"
        ),
    ),
    "arrays in arrays": ("[" * 60_000, invalid_message(f"{NOT_JSON}nested too deeply")),
    "objects in objects": ('{"a":' * 10_000, invalid_message(f"{NOT_JSON}nested too deeply")),
    "a field nested too deeply": (
        '{"type":"request","x":' + "[" * 20_000 + "]" * 20_000 + "}",
        invalid_message(f"{NOT_JSON}nested too deeply"),
    ),
    "data nested too deeply": (
        '{"type":"request","event":"subscribe","data":' + "[" * 20_000 + "]" * 20_000 + "}",
        invalid_message(f"{NOT_JSON}nested too deeply"),
    ),
    # Not an object.
    "an array": ("[]", invalid_message("Expected a JSON object, got an array")),
    "an array of messages": ('[{"type":"ping"}]', invalid_message("Expected a JSON object, got an array")),
    "a string": ('"ping"', invalid_message("Expected a JSON object, got a string")),
    "an integer": ("1", invalid_message("Expected a JSON object, got a number")),
    "a fraction": ("-1.5e3", invalid_message("Expected a JSON object, got a number")),
    "true": ("true", invalid_message("Expected a JSON object, got a boolean")),
    "null": ("null", invalid_message("Expected a JSON object, got null")),
    # The envelope.
    "an empty object": ("{}", invalid_message("Object missing required field `type`")),
    "no type, but an id": ('{"id":"a","event":"x"}', invalid_message("Object missing required field `type`", "x", "a")),
    "a number as type": ('{"type":1,"id":"a"}', invalid_message("Expected `str`, got `int` in `type`", None, "a")),
    "null as type": ('{"type":null}', invalid_message("Expected `str`, got `null` in `type`")),
    "a number as id": (
        '{"type":"ping","id":5,"correlation_id":"b"}',
        invalid_message("Expected `str | null`, got `int` in `id`", None, "b"),
    ),
    "an object as correlation_id": (
        '{"type":"ping","id":"a","correlation_id":{}}',
        invalid_message("Expected `str | null`, got `object` in `correlation_id`", None, "a"),
    ),
    "an array as event": (
        '{"type":"request","event":["x"],"id":"a"}',
        invalid_message("Expected `str | null`, got `array` in `event`", None, "a"),
    ),
    "an unknown type": (
        '{"type":"hello","event":"x","id":"a"}',
        invalid_message("Unknown message type 'hello': expected 'request' or 'ping'", "x", "a"),
    ),
    "a long unknown type": (
        json.dumps({"type": "é" * 5000}),
        invalid_message(f"Unknown message type '{'é' * 100}…': expected 'request' or 'ping'"),
    ),
    "a type of the longest shown length": (
        json.dumps({"type": "x" * 100}),
        invalid_message(f"Unknown message type '{'x' * 100}': expected 'request' or 'ping'"),
    ),
    "a type one character longer": (
        json.dumps({"type": "x" * 101}),
        invalid_message(f"Unknown message type '{'x' * 100}…': expected 'request' or 'ping'"),
    ),
    "a response": (
        '{"type":"response","event":"subscribe","data":{}}',
        invalid_message("Unknown message type 'response': expected 'request' or 'ping'", "subscribe"),
    ),
    "an error": ('{"type":"error"}', invalid_message("Unknown message type 'error': expected 'request' or 'ping'")),
    "an event": (
        '{"type":"event","event":"workflow.started","data":{"workflow_id":"w"},"id":"a"}',
        invalid_message("Clients cannot publish events: expected type 'request' or 'ping'", "workflow.started", "a"),
    ),
    "an event without a name": (
        '{"type":"event"}',
        invalid_message("Clients cannot publish events: expected type 'request' or 'ping'"),
    ),
    # The request.
    "a request without an event": (
        '{"type":"request","data":{},"id":"a"}',
        invalid_message("Missing field `event`: expected a string", None, "a"),
    ),
    "an unknown request": (
        request_text("restart", {}, id="a"),
        (ErrorCode.UNKNOWN_REQUEST, f"Unknown request 'restart': expected one of {KNOWN_REQUESTS}", "restart", "a"),
    ),
    "an unknown request without data": (
        '{"type":"request","event":""}',
        (ErrorCode.UNKNOWN_REQUEST, f"Unknown request '': expected one of {KNOWN_REQUESTS}", "", None),
    ),
    "a request name in upper case": (
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
        invalid_message("Missing field `data`: expected an object", "subscribe", "a"),
    ),
    # The data of a request.
    "null as data": bad_data(None, "Expected `object`, got `null` in `data`"),
    "an array as data": bad_data([], "Expected `object`, got `array` in `data`"),
    "a string as data": bad_data("global", "Expected `object`, got `str` in `data`"),
    "no channel": bad_data({}, "Object missing required field `channel` in `data`"),
    "a number as channel": bad_data({"channel": 1}, "Expected `str`, got `int` in `data.channel`"),
    "null as channel": bad_data({"channel": None}, "Expected `str`, got `null` in `data.channel`"),
    "an array as channel": bad_data({"channel": ["global"]}, "Expected `str`, got `array` in `data.channel`"),
    "a negative since": bad_data({"channel": "global", "since": -1}, "Expected `int` >= 0 in `data.since`"),
    "a since above the largest position": bad_data(
        {"channel": "global", "since": MAX_SEQ + 1}, f"Expected `int` <= {MAX_SEQ} in `data.since`"
    ),
    "a since above the largest 64-bit integer": bad_data(
        {"channel": "global", "since": 9_223_372_036_854_775_808},
        "Expected `int` <= 9223372036854775807 in `data.since`",
    ),
    "a since of 301 digits": bad_data(
        {"channel": "global", "since": 10**300}, f"Expected `int` <= {MAX_SEQ} in `data.since`"
    ),
    "a fraction as since": bad_data(
        {"channel": "global", "since": 1.5}, "Expected `int | null`, got `float` in `data.since`"
    ),
    "a string as since": bad_data(
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
        invalid_message("Missing field `data`: expected an object", "subscribe", "a"),
    ),
    "subscribe as an event with a channel": (
        '{"type":"event","event":"subscribe","data":{"channel":"global"}}',
        invalid_message("Object missing required field `room` in `data`", "subscribe"),
    ),
    "subscribe as an event with a number as room": (
        '{"type":"event","event":"subscribe","data":{"room":7}}',
        invalid_message("Expected `str`, got `int` in `data.room`", "subscribe"),
    ),
}


@pytest.mark.parametrize(("text", "expected"), INVALID.values(), ids=INVALID)
def test_decode_rejects(text: str, expected: tuple[Any, ...]) -> None:
    with pytest.raises(RequestError) as caught:
        decode(text)
    error = caught.value
    assert (error.code, error.message, error.event, error.correlation_id) == expected
    assert str(error) == error.message
