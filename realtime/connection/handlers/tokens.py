"""Answer the requests that present a token on an open connection."""

from __future__ import annotations

from functools import partial

from realtime.auth.identity import Identity
from realtime.connection.authentication import authenticated
from realtime.connection.handlers.handler_table import Response, handles
from realtime.connection.handlers.permissions import forbidden_channels
from realtime.connection.handlers.subscriptions import leave
from realtime.connection.registry import Connection
from realtime.protocol.frames import Frames
from realtime.protocol.requests import Auth, RefreshToken
from realtime.protocol.session import encode_session_unsubscribed


@handles(Auth)
async def auth(connection: Connection, request: Auth) -> Response:
    """Take the identity of a token, once, on a connection that was open without one."""
    return _response(connection, await connection.authenticate(request.token))


@handles(RefreshToken)
async def refresh_token(connection: Connection, request: RefreshToken) -> Response:
    """Replace the token, and with it the permissions."""
    return _response(connection, await connection.refresh(request.token))


def _response(connection: Connection, identity: Identity) -> Response:
    return Response(authenticated(identity), partial(_apply, connection))


async def _apply(connection: Connection) -> None:
    """Leave the channels that the identity may not read, and watch its expiry."""
    for channel in forbidden_channels(connection.identity, [*connection.channels, *connection.streams]):
        leave(connection, channel)
        connection.write(Frames([encode_session_unsubscribed(channel)]))
    connection.watch_expiry()
