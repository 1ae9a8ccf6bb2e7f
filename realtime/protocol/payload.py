"""JSON outside of messages: event data as the log stores it, and lines of input."""

from __future__ import annotations

from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def encode_data(data: object) -> str:
    """Return the JSON text of an event's data, as the log stores it."""
    return _encode(data).decode()


def size_in_bytes(text: str) -> int:
    """Return the size of a text as UTF-8."""
    # Python knows whether a text is ASCII. Only other texts are encoded.
    return len(text) if text.isascii() else len(text.encode())


def raw_json(text: str) -> msgspec.Raw:
    """Wrap JSON text made by `encode_data`, so that a message contains it unchanged."""
    return msgspec.Raw(text.encode())


def decode_object(text: str) -> dict[str, Any]:
    """Decode a JSON object, such as a line of input or the stored data of an event.

    Raises:
        ValueError: if `text` is not a JSON object.
    """
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decode_value(text: str) -> Any:
    """Decode any JSON value.

    Raises:
        ValueError: if `text` is not JSON.
    """
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def indent_json(text: str) -> str:
    """Return the same JSON, one member per line and indented by two spaces."""
    return msgspec.json.format(text, indent=2)
