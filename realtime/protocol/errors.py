"""What can go wrong with a request or a connection, and the codes that a client is told it by."""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """What an error message says in `error_code`. The first four are the API reference's."""

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


class CloseCode:
    """Registered WebSocket close codes (RFC 6455 section 7.4.1 and the IANA registry), as this server uses them."""

    POLICY = 1008
    TOO_BIG = 1009
    SERVER_ERROR = 1011
    RESTARTING = 1012
    TRY_LATER = 1013


class RequestError(Exception):
    """A request that cannot be answered as asked.

    Attributes:
        code: What the error message says in `error_code`.
        message: What was wrong, and what was expected, for a person.
        event: The request's event, where it is known.
        correlation_id: What the answer is filed under, where it is known.
    """

    def __init__(
        self, code: ErrorCode, message: str, *, event: str | None = None, correlation_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.event = event
        self.correlation_id = correlation_id
