"""Who the client of a connection is: by its handshake, its first message, or a newer token later.

For every fault of credentials the client reads the same sentence; the reason is in the log (`realtime.security`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from django.conf import settings
from django.db import Error

from realtime.auth.identity import EVERYONE, ON_THIS_MACHINE, Identity
from realtime.auth.security_log import log_security_event
from realtime.auth.sessions import identity_of_session
from realtime.auth.tokens import ONE_SENTENCE, InvalidToken, verify_token
from realtime.connection.auth_failures import auth_failures
from realtime.connection.client_address import ClientAddress
from realtime.connection.credentials import Credentials
from realtime.connection.expiry import ExpiryTimer
from realtime.connection.message_text import text_of
from realtime.connection.registry import Connection
from realtime.connection.writer import ConnectionWriter
from realtime.database import in_database_thread, log_failure
from realtime.exposure import is_local_only
from realtime.protocol.decoder import Incoming, decode
from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.frames import Frames
from realtime.protocol.messages import encode_response
from realtime.protocol.requests import Auth
from realtime.protocol.session import Authenticated, encode_session_expiring, time_of
from realtime.protocol.token_claims import LEEWAY_SECONDS

logger = logging.getLogger(__name__)

UNAUTHENTICATED: Final = Identity(user_id="", permissions=())
"""A client whose credentials are required and not checked yet."""

MAX_FIRST_MESSAGE_BYTES: Final = 16 * 1024
"""The size of the one message that a client may send before it is authenticated."""

_ANOTHER_MESSAGE = "the first message is no valid request, or another one than `auth`"

T = TypeVar("T")
Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class Disconnected(Exception):
    """Raised when a client disconnects before it is authenticated."""


def identity_without_credentials(address: ClientAddress) -> Identity:
    """Return who a client without credentials is, on a server that requires none.

    Once others can reach the server, no client counts as one of this machine: a proxy here may forward for others, and
    one that is not trusted hides that. While only this machine reaches it, `local_only` refuses what is forwarded.
    """
    is_on_this_machine = is_local_only() and not settings.MAHAVISHNU_EXPOSED and address.is_direct_loopback
    return ON_THIS_MACHINE if is_on_this_machine else EVERYONE


class Authentication:
    """Authenticates one connection, and ends it when its credentials expire.

    Args:
        connection: The connection; its `identity` is set here.
        credentials: What its handshake presents.
        address: Where its client is.

    Attributes:
        address: The address to which failures, and waiting for a token, are charged. No address is exempt.
    """

    __slots__ = ("_connection", "_credentials", "_has_authenticated", "_timer", "address")

    def __init__(self, connection: Connection, credentials: Credentials, address: ClientAddress) -> None:
        self._connection = connection
        self._credentials = credentials
        self.address = address.owner
        self._has_authenticated = False
        self._timer: ExpiryTimer | None = None
        connection.identity = (
            UNAUTHENTICATED if settings.MAHAVISHNU_REQUIRE_AUTH else identity_without_credentials(address)
        )

    @property
    def needs_first_message(self) -> bool:
        """Whether a token is required, and the handshake presents nothing that could do."""
        return bool(
            settings.MAHAVISHNU_REQUIRE_AUTH and not self._credentials.tokens and self._credentials.session_key is None
        )

    async def by_handshake(self) -> bool:
        """Check what the handshake presents. Return False if a first message has to present a token.

        A login counts where one is required: an open server needs none, and a page of it shows all without.

        Raises:
            RequestError: with `AUTH_FAILED`.
        """
        tokens, session_key = self._credentials.tokens, self._credentials.session_key
        required: bool = settings.MAHAVISHNU_REQUIRE_AUTH
        session = None
        if required and session_key is not None:
            session = await self._checked(in_database_thread(identity_of_session, session_key))
        if len(tokens) + (session is not None) > 1:
            raise self._failure("two different credentials")
        if tokens:
            self._take(await self._verified(tokens[0]))
        elif session is not None:
            self._take(session)
        elif required:
            return False
        return True

    async def by_first_message(self, receive: Receive, writer: ConnectionWriter) -> None:
        """Wait for the request `auth`, and answer it. Nothing more is read until the token was verified.

        Args:
            receive: Returns the next message of the ASGI server.
            writer: The sending side of the connection.

        Raises:
            RequestError: with `AUTH_REQUIRED`, `AUTH_FAILED` or `MESSAGE_TOO_BIG`.
            Disconnected: if the client disconnects first.
        """
        seconds = self._connection.limits.auth_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                message = await receive()
        except TimeoutError:
            raise self._required(f"no token was presented within {seconds:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise Disconnected
        incoming, token = self._decoded(message)
        writer.pause_reading()
        try:
            identity = await self._verified(token)
            self._take(identity)
        except RequestError as error:
            error.event, error.correlation_id = incoming.event, incoming.correlation_id
            raise
        finally:
            writer.resume_reading()
        response = encode_response(incoming.event, authenticated(identity), incoming.correlation_id)
        self._connection.write(Frames([response]))

    def _decoded(self, message: Mapping[str, Any]) -> tuple[Incoming, str]:
        try:
            incoming = decode(text_of(message, max_bytes=MAX_FIRST_MESSAGE_BYTES))
        except RequestError as error:
            if error.code is ErrorCode.MESSAGE_TOO_BIG:
                raise
            failed = error.event == Auth.event
            refused = self._failure("a malformed `auth`") if failed else self._required(_ANOTHER_MESSAGE)
            refused.event, refused.correlation_id = error.event, error.correlation_id
            raise refused from None
        if not isinstance(incoming.request, Auth):
            refused = self._required(_ANOTHER_MESSAGE)
            refused.event, refused.correlation_id = incoming.event, incoming.correlation_id
            raise refused
        return incoming, incoming.request.token

    async def authenticate(self, token: str) -> Identity:
        """Take the identity of a token, on a connection that was open without one.

        Raises:
            RequestError: with `AUTH_FAILED`, or with `INVALID_MESSAGE` if the connection is authenticated.
        """
        if self._has_authenticated:
            raise RequestError(
                ErrorCode.INVALID_MESSAGE,
                "This connection is authenticated: send `refresh_token` with a newer token of the same user",
            )
        identity = await self._verified(token)
        self._take(identity)
        return identity

    async def refresh(self, token: str) -> Identity:
        """Replace the token by a newer one of the same user.

        Raises:
            RequestError: with `AUTH_FAILED`, or with `INVALID_MESSAGE` if the connection has no token.
        """
        if not self._has_authenticated:
            raise RequestError(ErrorCode.INVALID_MESSAGE, "This connection has no token to refresh: send `auth` first")
        identity = await self._verified(token)
        if identity.user_id != self._connection.identity.user_id:
            raise self._failure("a newer token of another user", identity)
        self._take(identity)
        return identity

    def stop(self) -> None:
        """Stop the timer: the connection has ended."""
        if self._timer is not None:
            self._timer.stop()
        del self._connection  # It refers back to this object.

    async def _verified(self, token: str) -> Identity:
        try:
            return await self._checked(verify_token(token))
        except InvalidToken as error:
            raise self._failure(error.reason, error) from None

    async def _checked(self, identity: Awaitable[T]) -> T:
        """Wait for a check of credentials that reads the database.

        Raises:
            RequestError: with `SERVER_ERROR` if it cannot be read. No client is admitted unchecked.
        """
        try:
            return await identity
        except Error as error:
            log_failure(logger, f"Closing {self._connection}: its credentials could not be checked", error)
            raise RequestError(ErrorCode.SERVER_ERROR, "Internal server error") from None

    def _take(self, identity: Identity) -> None:
        """Make this the identity of the connection.

        It ends when it expires. A token that was verified within the leeway of clocks has expired by the clock of this
        server, and ends with the leeway.
        """
        now, ends_at = time.time(), identity.expires_at
        if ends_at is not None and ends_at <= now:
            ends_at += LEEWAY_SECONDS
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        self._connection.identity = identity
        self._has_authenticated = True
        self._log("auth.ok", "a token" if identity.session_key is None else "a login", identity)
        if ends_at is not None:
            self._timer = ExpiryTimer(
                expires_at=ends_at,
                begun_at=now if identity.issued_at is None else identity.issued_at,
                on_expiring=self._announce_expiry,
                on_expired=self._connection.on_expired,
            )

    def watch_expiry(self) -> None:
        """Announce and enforce the expiry from now on: the client has been answered."""
        if self._timer is not None:
            self._timer.start()

    def _announce_expiry(self) -> None:
        assert self._timer is not None, "it calls this"
        notice = encode_session_expiring(expires_at=self._timer.expires_at, now=time.time())
        self._connection.write(Frames([notice]))

    def ended(self, reason: str) -> RequestError:
        """Log that the credentials of the connection have ended, and return the error for the client."""
        self._log("auth.ended", reason, self._connection.identity)
        return RequestError(ErrorCode.AUTH_FAILED, ONE_SENTENCE)

    def _failure(self, reason: str, proven: Identity | InvalidToken | None = None) -> RequestError:
        self._log("auth.failed", reason, proven)
        limit = self._connection.limits.max_auth_failures_per_minute
        auth_failures.add(self.address, limit=limit, now=asyncio.get_running_loop().time())
        return RequestError(ErrorCode.AUTH_FAILED, ONE_SENTENCE)

    def _required(self, reason: str) -> RequestError:
        self._log("auth.required", reason)
        seconds = self._connection.limits.auth_timeout_seconds
        return RequestError(
            ErrorCode.AUTH_REQUIRED,
            "A token is required: as `Authorization: Bearer`, as the subprotocol `bearer.TOKEN` beside "
            f"`mahavishnu.v1`, or in the request `auth` as the first message, within {seconds:g} s",
        )

    def _log(self, event: str, detail: str, proven: Identity | InvalidToken | None = None) -> None:
        user_id, token_id = ("", None) if proven is None else (proven.user_id, proven.token_id)
        log_security_event(event, detail, user_id=user_id, token_id=token_id, source=str(self._connection))


def authenticated(identity: Identity) -> Authenticated:
    """Return the data of the response to `auth`."""
    return Authenticated(
        user_id=identity.user_id, permissions=identity.permissions, expires_at=time_of(identity.expires_at)
    )
