"""JSON that is no message: the data of an event as the log keeps it, a line of input."""

from __future__ import annotations

from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def encode_data(data: object) -> str:
    """The JSON text of an event's data, as the log keeps it."""
    return _encode(data).decode()


def encoded(text: str) -> msgspec.Raw:
    """JSON text that `encode_data` made, as it stands inside a message."""
    return msgspec.Raw(text.encode())


def decode_object(text: str) -> dict[str, Any]:
    """Read a JSON object that is no message: a line of input, an event's stored data.

    Raises:
        ValueError: if it is not JSON, or not an object.
    """
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decode_value(text: str) -> Any:
    """Read any JSON value that is no message.

    Raises:
        ValueError: if it is not JSON.
    """
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def indented(text: str) -> str:
    """The same JSON, laid out for a person."""
    return msgspec.json.format(text, indent=2)
