"""Tests of what is read from a message of an observed broker."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.identifiers import is_identifier
from orchestration.models.stage import MAX_STAGE_NAME_LENGTH
from orchestration.observers.celery.broker import parse_url
from orchestration.observers.celery.events import (
    MAX_BODY_BYTES,
    MAX_EVENTS_PER_MESSAGE,
    MAX_KEY_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    Kind,
    TaskEvent,
    WorkerEvent,
    decode,
    read_event,
    read_events,
    read_reply,
)
from orchestration.observers.celery.identity import Identity, is_prefix, short_id, stage_name

RECEIVED = {"type": "task-received", "uuid": "u1", "hostname": "celery@box", "name": "shop.add", "retries": 0}
SHOP = Identity("shop")
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


def test_decode_reads_json_only() -> None:
    assert decode(b'[{"a": 1}]') == [{"a": 1}]
    assert decode('"\ud800"') == "\ud800"
    pickled, yaml = b"\x80\x04cos\nsystem\n.", b"!!python/object/apply:os.system ['true']"
    for body in (pickled, yaml, b"", b"\xff", b"[" * 100_000, b" " * MAX_BODY_BYTES + b"1", 5, None):
        assert decode(body) is None
    # Kombu's own decoder would build a datetime.
    assert decode(b'{"__type__": "datetime", "__value__": "2026-01-01"}') == {
        "__type__": "datetime",
        "__value__": "2026-01-01",
    }


@pytest.mark.parametrize(
    "value",
    [
        *(1, None, "x", [], {}, {"type": 1}, {"type": "task-received"}, {"type": "nonsense", "hostname": "h"}),
        {**RECEIVED, "uuid": 5},
        {**RECEIVED, "uuid": ""},
        {**RECEIVED, "uuid": "u" * (MAX_KEY_CHARACTERS + 1)},
        {**RECEIVED, "hostname": None},
        {**RECEIVED, "type": "task-exploded"},
    ],
    ids=str,
)
def test_read_event_of_anything_else_is_none(value: object) -> None:
    assert read_event(value) is None


@pytest.mark.parametrize(
    ("fields", "attribute", "expected"),
    [
        ({"timestamp": 10**400}, "timestamp", None),
        ({"timestamp": float("nan")}, "timestamp", None),
        ({"timestamp": True}, "timestamp", None),
        ({"timestamp": 5}, "timestamp", 5.0),
        ({"retries": -1}, "retries", None),
        ({"retries": 2**40}, "retries", None),
        ({"retries": "1"}, "retries", None),
        ({"name": 7}, "name", "7"),
        ({"name": ["a"]}, "name", None),
        ({"args": "x" * 2000}, "args", "x" * MAX_TEXT_CHARACTERS),
        ({"root_id": "r" * 2000}, "root_id", None),
        ({"queue": {"a": 1}}, "queue", None),
        ({"requeue": 1}, "requeue", False),
    ],
)
def test_read_event_drops_a_field_of_another_type(fields: dict[str, Any], attribute: str, expected: object) -> None:
    event = read_event({**RECEIVED, **fields})
    assert isinstance(event, TaskEvent)
    assert getattr(event, attribute) == expected


def test_read_events_reads_a_bounded_number() -> None:
    assert len(list(read_events([RECEIVED] * (MAX_EVENTS_PER_MESSAGE + 5)))) == MAX_EVENTS_PER_MESSAGE
    heartbeat = read_event({"type": "worker-heartbeat", "hostname": "celery@box", "freq": 2.0, "pid": 7})
    assert heartbeat == WorkerEvent(Kind.HEARTBEAT, "celery@box", freq=2.0, pid=7)


def test_read_reply_reads_what_was_asked_for() -> None:
    queues = read_reply({"celery@box": [{"name": "orders"}, 5, {"name": 5}]}, command="active_queues")
    assert queues is not None
    assert (queues.hostname, queues.queues, queues.active) == ("celery@box", ("orders",), None)
    running = read_reply(
        {"celery@box": [{"id": "u1", "name": "shop.add", "delivery_info": {"routing_key": "orders"}}, {"id": 5}, 6]},
        command="active",
    )
    assert running is not None
    assert running.active == (TaskEvent(Kind.STARTED, "u1", "celery@box", name="shop.add", queue="orders"),)
    values: tuple[object, ...] = (None, {}, {"a": [], "b": []}, {"a": {}}, {"": []}, [])
    for value in values:
        assert read_reply(value, command="active") is None


@settings(max_examples=50)
@given(value=JSON, body=st.binary())
def test_reading_raises_nothing(value: object, body: bytes) -> None:
    assert read_event(value) is None
    list(read_events(value))
    read_reply(value, command="active")
    list(read_events(decode(body)))
    list(read_events(decode(json.dumps(value))))


def test_ids_stay_readable() -> None:
    assert SHOP.worker_id("celery@box-1.example.org") == "shop-celery_box-1.example.org"
    assert SHOP.pool_id("orders_high") == "shop-orders_high"
    assert SHOP.workflow_id("5eb23913-7aac-4ae3-9a88-ae3fee2a6cc4", 2) == "shop-5eb23913-7aac-4ae3-9a88-ae3fee2a6cc4.2"
    assert SHOP.part_of(SHOP.workflow_id("abc", 3)) == (SHOP.workflow_id("abc"), 3)
    assert Identity("a.b").part_of("a.b-x.2") == ("a.b-x", 2)
    assert stage_name("shop.add", "5eb23913-7aac-4ae3-9a88-ae3fee2a6cc4") == "shop.add 5eb23913-7aac"
    # The first 48 bits of a UUID of version 7 are a time.
    assert short_id("0190b5a0-0000-7000-8000-000000000001") != short_id("0190b5a0-0000-7000-8000-000000000002")
    assert not is_prefix("-a")
    assert not is_prefix("a" * 33)


@settings(max_examples=50)
@given(text=st.text(alphabet=st.characters()), other=st.text(alphabet=st.characters()))
def test_every_text_has_a_valid_id_and_different_texts_have_different_ones(text: str, other: str) -> None:
    for make in (SHOP.pool_id, SHOP.worker_id, SHOP.workflow_id):
        assert is_identifier(make(text))
        assert (make(text) == make(other)) == (text == other)
    assert (short_id(text) == short_id(other)) == (text == other)
    name = stage_name(text, other)
    assert 0 < len(name) <= MAX_STAGE_NAME_LENGTH
    assert not re.search(r"[\x00-\x1f\x7f\u202e\ud800-\udfff]", name)


@pytest.mark.parametrize("url", ["", "redis", "://x", "carrot://x:secret@h", None])
def test_parse_url_names_what_is_allowed_without_the_password(url: str | None) -> None:
    with pytest.raises(ValueError, match="expected the URL of a broker") as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)
    assert parse_url("unix:///tmp/v.sock") == "redis+socket:///tmp/v.sock"
    assert parse_url("amqp://a:b@h//") == "amqp://a:b@h//"
