"""Events about one connection only. They belong to no channel, and are not in the event log."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from msgspec import UNSET, UnsetType

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
        user_id: Who the client is, if it has presented credentials.
        expires_at: When its credentials expire, if it has presented some.
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
    user_id: str | UnsetType = UNSET
    expires_at: datetime | UnsetType = UNSET


class Authenticated(msgspec.Struct, frozen=True, kw_only=True):
    """The response to `auth`.

    Attributes:
        user_id: Who the client is.
        permissions: What it may do.
        expires_at: When the token expires.
    """

    user_id: str
    permissions: tuple[str, ...]
    expires_at: datetime | UnsetType = UNSET


class TokenRefreshed(Authenticated, frozen=True, kw_only=True):
    """The response to `refresh_token`. The clients' typed messages are generated from it."""


class SessionExpiring(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `session.expiring`: the connection is closed soon, unless the client refreshes its token.

    Attributes:
        expires_in_ms: How long until then.
        expires_at: When that is.
    """

    expires_in_ms: int
    expires_at: datetime


class SessionUnsubscribed(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `session.unsubscribed`: the new token does not permit to read a channel.

    Attributes:
        channel: The channel.
        reason: Always `forbidden`.
    """

    channel: str
    reason: str = "forbidden"


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


def encode_session_created(
    connection_id: str,
    *,
    epoch: str,
    seq: int,
    limits: ClientLimits,
    user_id: str = "",
    expires_at: float | None = None,
) -> bytes:
    """Encode the first message of a connection.

    Args:
        connection_id: UUID of the connection.
        epoch: The event log.
        seq: A position of it.
        limits: The limits of the server.
        user_id: Who the client is; empty without credentials.
        expires_at: When its credentials expire, in seconds since the epoch.
    """
    data = SessionCreated(
        connection_id=connection_id,
        epoch=epoch,
        seq=seq,
        limits=limits,
        user_id=user_id or UNSET,
        expires_at=time_of(expires_at),
    )
    return encode_notice("session.created", data)


def encode_session_expiring(*, expires_at: float, now: float) -> bytes:
    """Encode the announcement that the credentials of a connection expire. Times are in seconds since the epoch."""
    data = SessionExpiring(
        expires_in_ms=max(round((expires_at - now) * 1000), 0), expires_at=datetime.fromtimestamp(expires_at, UTC)
    )
    return encode_notice("session.expiring", data)


def encode_session_unsubscribed(channel: str) -> bytes:
    """Encode the end of a subscription that a new token does not permit."""
    return encode_notice("session.unsubscribed", SessionUnsubscribed(channel=channel))


def time_of(seconds: float | None) -> datetime | UnsetType:
    """Return a time in UTC, from seconds since the epoch."""
    return UNSET if seconds is None else datetime.fromtimestamp(seconds, UTC)


def encode_session_position(*, seq: int, epoch: str) -> bytes:
    """Encode the position up to which a connection has received the events of its channels."""
    return encode_notice("session.position", SessionPosition(seq=seq, epoch=epoch))


def encode_session_draining(*, retry_after_ms: int) -> bytes:
    """Encode the last message that a stopping server sends."""
    return encode_notice("session.draining", SessionDraining(retry_after_ms=retry_after_ms))
