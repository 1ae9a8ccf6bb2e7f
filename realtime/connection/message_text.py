"""The text of a message, within a limit of bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from realtime.protocol.errors import ErrorCode, RequestError


def text_of(message: Mapping[str, Any], *, max_bytes: int) -> str:
    """Return the text of a message of the ASGI server.

    Raises:
        RequestError: with `INVALID_MESSAGE` if it is binary, and with `MESSAGE_TOO_BIG`.
    """
    text: str | None = message.get("text")
    if text is None:
        raise RequestError(ErrorCode.INVALID_MESSAGE, "Binary messages are not supported; send JSON as text")
    # Under daphne, `realtime.daphne_server.inbound` enforces the limit of an authenticated client earlier.
    size_bytes = len(text) if text.isascii() else len(text.encode())
    if size_bytes > max_bytes:
        raise RequestError(
            ErrorCode.MESSAGE_TOO_BIG, f"Message of {size_bytes} bytes exceeds the limit of {max_bytes} bytes"
        )
    return text
