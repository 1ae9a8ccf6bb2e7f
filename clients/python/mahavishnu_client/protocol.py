"""What the client sends, as text of messages, and what the messages about the connection say."""

from __future__ import annotations

from typing import Any

import msgspec

from mahavishnu_client.errors import AuthenticationError, Forbidden, RequestFailed, failure
from mahavishnu_client.events import Message

PING_AFTER_SECONDS = 10.0
MESSAGES_PER_SECOND = 100.0
MESSAGE_BURST = 150
"""What a server allows whose welcome has no limits."""


class SessionLimits(msgspec.Struct, frozen=True):
    """The limits of the server that a client keeps to."""

    max_messages_per_second: float = MESSAGES_PER_SECOND
    max_message_burst: int = MESSAGE_BURST


class Welcome(msgspec.Struct, frozen=True):
    """The data of `session.created`."""

    epoch: str
    seq: int
    server_version: str = ""
    protocol_version: int = 1
    ping_after_ms: int = int(PING_AFTER_SECONDS * 1000)
    limits: SessionLimits = SessionLimits()


class Draining(msgspec.Struct, frozen=True):
    """The data of `session.draining`."""

    retry_after_ms: int


class Unsubscribed(msgspec.Struct, frozen=True):
    """The data of `session.unsubscribed`."""

    channel: str
    reason: str = ""

    @property
    def error(self) -> Forbidden:
        """The exception for those who read the channel."""
        reason = f": {self.reason}" if self.reason else ""
        return Forbidden("FORBIDDEN", f"The server has ended the subscription of {self.channel}{reason}")


class DeliveredPosition(msgspec.Struct, frozen=True):
    """The data of `session.position` and of a pong: everything up to `seq` was delivered before it."""

    seq: int | None = None
    epoch: str = ""


class SubscribeAnswer(msgspec.Struct, frozen=True):
    """The data of the response to `subscribe`."""

    seq: int
    epoch: str
    recovered: bool | None = None
    missed: int = 0
    reason: str = ""
    snapshot: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


decode_welcome = msgspec.json.Decoder(Welcome).decode
decode_draining = msgspec.json.Decoder(Draining).decode
decode_unsubscribed = msgspec.json.Decoder(Unsubscribed).decode
decode_position = msgspec.json.Decoder(DeliveredPosition).decode
decode_subscribe_answer = msgspec.json.Decoder(SubscribeAnswer).decode
_encode = msgspec.json.Encoder().encode


def error_of(message: Message) -> RequestFailed | AuthenticationError:
    """Return the exception for an error message."""
    return failure(
        message.error_code,
        message.error_message,
        retryable=message.retryable,
        retry_after_ms=message.retry_after_ms,
    )


def encode_request(name: str, data: dict[str, Any], request_id: str) -> bytes:
    """Return the message of a request. Arguments that are None are left out."""
    given = {key: value for key, value in data.items() if value is not None}
    return _encode({"type": "request", "event": name, "data": given, "id": request_id})


def encode_ping(request_id: str) -> bytes:
    """Return the message of a ping."""
    return _encode({"type": "ping", "id": request_id})
