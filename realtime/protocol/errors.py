"""Error codes, close codes, and the exception that carries an error to the client."""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """The `error_code` of an error message. The first four are from the API reference."""

    UNKNOWN_REQUEST = "UNKNOWN_REQUEST"
    INVALID_CHANNEL = "INVALID_CHANNEL"
    NOT_FOUND = "NOT_FOUND"
    SERVER_ERROR = "SERVER_ERROR"
    INVALID_MESSAGE = "INVALID_MESSAGE"
    MESSAGE_TOO_BIG = "MESSAGE_TOO_BIG"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    TOO_MANY_CONNECTIONS = "TOO_MANY_CONNECTIONS"
    TOO_MANY_SUBSCRIPTIONS = "TOO_MANY_SUBSCRIPTIONS"
    SLOW_CONSUMER = "SLOW_CONSUMER"
    EVENTS_TRIMMED = "EVENTS_TRIMMED"
    AUTH_REQUIRED = "AUTH_REQUIRED"
    AUTH_FAILED = "AUTH_FAILED"
    FORBIDDEN = "FORBIDDEN"

    @property
    def retryable(self) -> bool:
        """Whether the same request, or a new connection, may succeed later."""
        return self in _RETRYABLE


_RETRYABLE = frozenset(
    {
        ErrorCode.SERVER_ERROR,
        ErrorCode.RATE_LIMIT_EXCEEDED,
        ErrorCode.TOO_MANY_CONNECTIONS,
        ErrorCode.SLOW_CONSUMER,
        ErrorCode.EVENTS_TRIMMED,
    }
)


class CloseCode:
    """The WebSocket close codes this server sends (RFC 6455 section 7.4.1 and the IANA registry)."""

    POLICY = 1008
    TOO_BIG = 1009
    SERVER_ERROR = 1011
    RESTARTING = 1012
    TRY_LATER = 1013


class RequestError(Exception):
    """A request that the server answers with an error message.

    Attributes:
        code: The `error_code` of that message.
        message: Its `error_message`: what is wrong and what is allowed.
        event: The `event` of the request; None if it is unknown.
        correlation_id: The `correlation_id` of the answer; None if the request has none.
        retry_after_ms: How long to wait before the same request may succeed; None if unknown.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        event: str | None = None,
        correlation_id: str | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.event = event
        self.correlation_id = correlation_id
        self.retry_after_ms = retry_after_ms
