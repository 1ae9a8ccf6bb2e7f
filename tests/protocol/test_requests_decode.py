"""`decode()` with valid messages. No server, no I/O."""

from __future__ import annotations

import json
from typing import Any

import pytest

from realtime.protocol.decoder import Incoming, decode
from realtime.protocol.requests import MAX_SEQ, GetPoolStatus, GetWorkflowStatus, Request, Subscribe, Unsubscribe


def request_text(event: str, data: Any, **fields: Any) -> str:
    return json.dumps({"type": "request", "event": event, "data": data, **fields})


VALID: dict[str, tuple[str, Request | None, str, str | None]] = {
    "subscribe": (
        request_text("subscribe", {"channel": "global"}, id="a"),
        Subscribe(channel="global"),
        "subscribe",
        "a",
    ),
    "subscribe without a snapshot": (
        request_text("subscribe", {"channel": "global"}),
        Subscribe(channel="global", snapshot=False),
        "subscribe",
        None,
    ),
    "subscribe after the largest position of both databases": (
        request_text("subscribe", {"channel": "global", "since": 9_223_372_036_854_775_807}),
        Subscribe(channel="global", since=MAX_SEQ),
        "subscribe",
        None,
    ),
    "subscribe with every field": (
        request_text("subscribe", {"channel": "global", "since": MAX_SEQ, "epoch": "e", "snapshot": True}),
        Subscribe(channel="global", since=MAX_SEQ, epoch="e", snapshot=True),
        "subscribe",
        None,
    ),
    "null for optional fields": (
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
    "id and correlation_id": (
        request_text("unsubscribe", {"channel": "global"}, id="a", correlation_id="b"),
        Unsubscribe(channel="global"),
        "unsubscribe",
        "a",
    ),
    "correlation_id without id": (
        request_text("unsubscribe", {"channel": "global"}, correlation_id="b"),
        Unsubscribe(channel="global"),
        "unsubscribe",
        "b",
    ),
    "empty id": (
        request_text("unsubscribe", {"channel": "global"}, id="", correlation_id="b"),
        Unsubscribe(channel="global"),
        "unsubscribe",
        "",
    ),
    "unknown fields": (
        request_text("unsubscribe", {"channel": "global", "more": [1]}, timestamp="2026", room="x", extra={"a": None}),
        Unsubscribe(channel="global"),
        "unsubscribe",
        None,
    ),
    "surrounding white space": (
        f"\n\t {request_text('unsubscribe', {'channel': 'global'})}\r\n",
        Unsubscribe(channel="global"),
        "unsubscribe",
        None,
    ),
    "duplicate fields, the last one counts": (
        '{"type":"ping","type":"request","event":"unsubscribe","data":{"channel":"a","channel":"b"}}',
        Unsubscribe(channel="b"),
        "unsubscribe",
        None,
    ),
    "channel names are not checked": (
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


@pytest.mark.parametrize(("text", "request_", "event", "correlation_id"), VALID.values(), ids=VALID)
def test_decode_returns_the_request(
    text: str, request_: Request | None, event: str, correlation_id: str | None
) -> None:
    assert decode(text) == Incoming(request=request_, event=event, correlation_id=correlation_id)
