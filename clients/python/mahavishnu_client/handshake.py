"""How a WebSocket is opened: the arguments for `websockets.connect`, and what a refused handshake says."""

from __future__ import annotations

import logging
import re
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from mahavishnu_client.options import Options

_CLOSE_TIMEOUT_SECONDS = 1.0
_FRAMES_READ_AHEAD = 256

_USER_OF_URL = re.compile(r"(?<=//)[^/?#]*@")


class _WithoutFrames(logging.LoggerAdapter[Any]):
    """A logger without the messages for debugging: they show headers and frames, and so tokens."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name of the library
        return level > logging.DEBUG and super().isEnabledFor(level)


async def open_websocket(
    url: str, options: Options, connect_options: dict[str, Any], token: str | None
) -> ClientConnection:
    """Open a WebSocket, with a token if the client has one."""
    arguments: dict[str, Any] = {
        "compression": None,
        "open_timeout": options.open_timeout_seconds,
        "close_timeout": _CLOSE_TIMEOUT_SECONDS,
        "ping_interval": None,
        "max_size": options.max_message_bytes,
        "max_queue": _FRAMES_READ_AHEAD,
        **connect_options,
    }
    if token is not None:
        # The library sends them to this origin only, wherever it is redirected to.
        headers = [*_items(arguments.get("additional_headers")), ("Authorization", f"Bearer {token}")]
        logger = arguments.get("logger") or logging.getLogger("websockets.client")
        arguments |= {"additional_headers": headers, "logger": _WithoutFrames(logger, {})}
    return await connect(url, **arguments)


def has_credentials(url: str, connect_options: dict[str, Any]) -> bool:
    """Return whether the caller identifies itself in another way than by a token."""
    headers = _items(connect_options.get("additional_headers"))
    return _USER_OF_URL.search(url) is not None or any(name.lower() == "authorization" for name, _ in headers)


def shown(url: str) -> str:
    """Return a URL for logs: without a user and a password."""
    return _USER_OF_URL.sub("", url)


def _items(headers: Any) -> list[tuple[str, str]]:
    if headers is None:
        return []
    items = headers.raw_items() if hasattr(headers, "raw_items") else getattr(headers, "items", lambda: headers)()
    return list(items)


def retry_after_ms(error: Exception) -> int | None:
    """Return the time of a `Retry-After` header in seconds; None for a date, or if there is none."""
    if not isinstance(error, InvalidStatus):
        return None
    text = error.response.headers.get("Retry-After")
    return int(text) * 1000 if text is not None and text.isascii() and text.isdigit() else None
