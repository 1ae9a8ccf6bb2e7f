"""The wire: every message between a client and the server, its decoder and its encoder. No I/O and no Django.

A text frame from a client becomes a typed request, or a `RequestError` that says what was wrong with it. A typed
message becomes the bytes of a text frame. JSON exists nowhere else, and everybody else comes through this door.
"""

from __future__ import annotations

from realtime.protocol.errors import CloseCode, ErrorCode, RequestError
from realtime.protocol.messages import (
    EventRecord,
    PoolStatus,
    Subscribed,
    Unsubscribed,
    WorkflowStatus,
    encode_error,
    encode_event,
    encode_notice,
    encode_pong,
    encode_response,
    encode_session_created,
    encode_session_draining,
    new_id,
    utc_now,
)
from realtime.protocol.payload import decode_object, decode_value, encode_data, encoded, indented
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

__all__ = [
    "MAX_SEQ",
    "REQUESTS",
    "CloseCode",
    "ErrorCode",
    "EventRecord",
    "GetPoolStatus",
    "GetWorkflowStatus",
    "Incoming",
    "PoolStatus",
    "Request",
    "RequestError",
    "Subscribe",
    "Subscribed",
    "Unsubscribe",
    "Unsubscribed",
    "WorkflowStatus",
    "decode",
    "decode_object",
    "decode_value",
    "encode_data",
    "encode_error",
    "encode_event",
    "encode_notice",
    "encode_pong",
    "encode_response",
    "encode_session_created",
    "encode_session_draining",
    "encoded",
    "indented",
    "new_id",
    "utc_now",
]
