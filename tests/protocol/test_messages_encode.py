"""The encoders of messages, and the JSON of event data. No server, no I/O."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from realtime.limits import Limits
from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.messages import (
    EventRecord,
    Subscribed,
    Unsubscribed,
    encode_error,
    encode_event,
    encode_notice,
    encode_pong,
    encode_response,
)
from realtime.protocol.payload import decode_object, decode_value, encode_data, indent_json
from realtime.protocol.server_info import ClientLimits
from realtime.protocol.session import (
    SessionPosition,
    encode_session_created,
    encode_session_draining,
    encode_session_position,
)
from tests.harness.matchers import A_TIME, A_UUID, a_pong, a_response, an_error, an_event

TIMESTAMP = datetime(2026, 2, 10, 20, 0, 0, tzinfo=UTC)


def test_encode_event_contains_the_stored_data() -> None:
    event = EventRecord(7, "6f1ab3c6-4a2e-4a5e-8f0c-1f3f5c0a9f11", "workflow.started", TIMESTAMP, '{"é":[1,null]}')
    assert json.loads(encode_event(event, room="global")) == {
        "id": "6f1ab3c6-4a2e-4a5e-8f0c-1f3f5c0a9f11",
        "type": "event",
        "event": "workflow.started",
        "data": {"é": [1, None]},
        "timestamp": "2026-02-10T20:00:00Z",
        "room": "global",
        "seq": 7,
    }


def test_encode_event_marks_a_replay() -> None:
    event = EventRecord(7, "6f1ab3c6-4a2e-4a5e-8f0c-1f3f5c0a9f11", "pool.closed", TIMESTAMP, "{}")
    assert json.loads(encode_event(event, room="pool:p", replay=True)) == an_event(
        "pool.closed", {}, room="pool:p", replay=True
    )


def test_encode_session_created_adds_the_log_position_and_the_limits_to_the_reference() -> None:
    limits = ClientLimits.of(Limits(max_subscriptions=7))
    assert json.loads(encode_session_created("c", epoch="e", seq=3, limits=limits)) == {
        "id": A_UUID,
        "type": "event",
        "event": "session.created",
        "data": {
            "connection_id": "c",
            "epoch": "e",
            "seq": 3,
            "server": "mahavishnu",
            "message": "Connected to Mahavishnu orchestration",
            "server_version": "1.0.0",
            "protocol_version": 1,
            "ping_after_ms": 10_000,
            "limits": {
                "max_message_bytes": 65536,
                "max_subscriptions": 7,
                "max_messages_per_second": 100.0,
                "max_message_burst": 150,
                "max_replay_events": 10_000,
                "max_event_data_bytes": 65536,
            },
        },
        "timestamp": A_TIME,
    }


def test_encode_session_draining_says_when_to_reconnect() -> None:
    assert json.loads(encode_session_draining(retry_after_ms=1500)) == {
        "id": A_UUID,
        "type": "event",
        "event": "session.draining",
        "data": {
            "retry_after_ms": 1500,
            "message": "This server is stopping: reconnect and subscribe with `since`",
        },
        "timestamp": A_TIME,
    }


def test_encode_session_position_and_pong_have_the_same_data() -> None:
    position = SessionPosition(seq=2**53, epoch="e")
    assert json.loads(encode_session_position(seq=2**53, epoch="e")) == {
        "id": A_UUID,
        "type": "event",
        "event": "session.position",
        "data": {"seq": 2**53, "epoch": "e"},
        "timestamp": A_TIME,
    }
    assert json.loads(encode_pong("a", position=position)) == a_pong("a", data={"seq": 2**53, "epoch": "e"})


def test_encode_notice_has_no_room_and_no_seq() -> None:
    assert json.loads(encode_notice("session.draining", {"a": 1})) == {
        "id": A_UUID,
        "type": "event",
        "event": "session.draining",
        "data": {"a": 1},
        "timestamp": A_TIME,
    }


def test_encode_response_to_unsubscribe_has_its_status() -> None:
    assert json.loads(encode_response("unsubscribe", Unsubscribed(channel="global"), "a")) == a_response(
        "unsubscribe", {"status": "unsubscribed", "channel": "global"}, "a"
    )


@pytest.mark.parametrize("correlation_id", [None, "", "a"])
def test_answers_carry_the_correlation_id(correlation_id: str | None) -> None:
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


def test_encode_error_without_a_request_is_named_error() -> None:
    error = RequestError(ErrorCode.RATE_LIMIT_EXCEEDED, "Slower", retry_after_ms=9)
    assert json.loads(encode_error(error)) == an_error(
        "RATE_LIMIT_EXCEEDED", "Slower", event="error", retryable=True, retry_after_ms=9
    )


def test_message_ids_are_unique() -> None:
    assert json.loads(encode_pong(None))["id"] != json.loads(encode_pong(None))["id"]


def test_encode_data_round_trips() -> None:
    data = {"result": {"é": [1, 2.5, None, True, "x"]}, "at": "2026-02-10T20:00:00Z"}
    assert decode_object(encode_data({**data, "at": TIMESTAMP})) == data


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Input data was truncated"),
        ("[]", "Expected `object`, got `array`"),
        ("1", "Expected `object`, got `int`"),
        ("{", "Input data was truncated"),
        ('{"a":' * 10_000, "nested too deeply"),
    ],
    ids=lambda text: text[:20],
)
def test_decode_object_rejects_other_json(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        decode_object(text)


@pytest.mark.parametrize("value", [None, True, 3, "x", [1, None], {"a": [1.5]}], ids=json.dumps)
def test_decode_value_returns_any_json_value(value: Any) -> None:
    assert decode_value(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [("~/code", "JSON is malformed: "), ("", "Input data was truncated$"), ("[" * 60_000, "nested too deeply$")],
    ids=lambda text: text[:20],
)
def test_decode_value_rejects_what_is_not_json(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        decode_value(text)


def test_indent_json_keeps_the_value() -> None:
    assert indent_json('{"a":[1,null]}') == '{\n  "a": [\n    1,\n    null\n  ]\n}'
