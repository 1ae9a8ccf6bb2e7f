"""The exceptions of the client. Gaps in the history are no exceptions: see `HistoryLost`."""

from __future__ import annotations


class ClientError(Exception):
    """The base class of the client's exceptions."""


class RequestFailed(ClientError):
    """The server answered a request with an error.

    Attributes:
        code: The `error_code`, such as `NOT_FOUND`. The protocol lists them.
        message: What is wrong and what is allowed, for people.
        retryable: Whether the same request may succeed later.
        retry_after_ms: How long to wait before that; None if the server did not say.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False, retry_after_ms: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms


class NotFound(RequestFailed):
    """No workflow, pool or worker has the id of the request."""


class Forbidden(RequestFailed):
    """The client has no permission for the request or the channel, or has it no longer."""


class AuthenticationError(ClientError):
    """The server requires a token, or does not accept the one of this client. The client has ended.

    Attributes:
        code: `AUTH_REQUIRED` or `AUTH_FAILED`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class ConnectionLost(ClientError):
    """The connection ended before a request was answered, or there was none in time.

    Attributes:
        maybe_done: Whether the request was sent, so that the server may have executed it.
    """

    def __init__(self, message: str, *, maybe_done: bool) -> None:
        super().__init__(message)
        self.maybe_done = maybe_done


class RequestTimeout(ClientError):
    """The server was connected and did not answer in time. It may have executed the request."""

    maybe_done = True


class ClientClosed(ClientError):
    """The client was closed."""


class ProtocolError(ClientError):
    """The server sent what is not a message of this protocol. The client reconnects."""


_AUTHENTICATION_CODES = frozenset({"AUTH_REQUIRED", "AUTH_FAILED"})
_KINDS: dict[str, type[RequestFailed]] = {"NOT_FOUND": NotFound, "FORBIDDEN": Forbidden}


def failure(
    code: str, message: str, *, retryable: bool, retry_after_ms: int | None
) -> RequestFailed | AuthenticationError:
    """Return the exception for an error message."""
    if code in _AUTHENTICATION_CODES:
        return AuthenticationError(code, message)
    return _KINDS.get(code, RequestFailed)(code, message, retryable=retryable, retry_after_ms=retry_after_ms)
