"""Events about one connection only. They belong to no channel, and are not in the event log."""

from __future__ import annotations

import msgspec

from realtime.protocol.messages import encode_notice
from realtime.protocol.server_info import PING_AFTER_MS, PROTOCOL_VERSION, SERVER_VERSION, ClientLimits


class SessionCreated(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `session.created`, the first message of a connection.

    Attributes:
        connection_id: UUID of the connection.
        epoch: The event log that this server delivers from.
        seq: A position of that log, read before the connection opened.
        server: Name of the server.
        message: Greeting from the API reference.
        server_version: The version of the server.
        protocol_version: The version of the protocol.
        ping_after_ms: How long a client receives nothing before it should send a ping.
        limits: The limits of the server.
    """

    connection_id: str
    epoch: str
    seq: int
    server: str = "mahavishnu"
    message: str = "Connected to Mahavishnu orchestration"
    server_version: str = SERVER_VERSION
    protocol_version: int = PROTOCOL_VERSION
    ping_after_ms: int = PING_AFTER_MS
    limits: ClientLimits


class SessionPosition(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `session.position`, and of a pong: every event of the connection's channels up to it was sent before.

    Attributes:
        seq: Position of the event log.
        epoch: The log that `seq` belongs to.
    """

    seq: int
    epoch: str


class SessionDraining(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `session.draining`, the last message before a stopping server closes a connection.

    Attributes:
        retry_after_ms: How long to wait before reconnecting. Each client gets a different delay.
        message: What the client should do.
    """

    retry_after_ms: int
    message: str = "This server is stopping: reconnect and subscribe with `since`"


def encode_session_created(connection_id: str, *, epoch: str, seq: int, limits: ClientLimits) -> bytes:
    """Encode the first message of a connection."""
    data = SessionCreated(connection_id=connection_id, epoch=epoch, seq=seq, limits=limits)
    return encode_notice("session.created", data)


def encode_session_position(*, seq: int, epoch: str) -> bytes:
    """Encode the position up to which a connection has received the events of its channels."""
    return encode_notice("session.position", SessionPosition(seq=seq, epoch=epoch))


def encode_session_draining(*, retry_after_ms: int) -> bytes:
    """Encode the last message that a stopping server sends."""
    return encode_notice("session.draining", SessionDraining(retry_after_ms=retry_after_ms))
