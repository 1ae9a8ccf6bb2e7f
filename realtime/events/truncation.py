"""Truncate the data of large events. A large result is stored complete; only its event is truncated."""

from __future__ import annotations

from typing import Any

from realtime.protocol.channels import MAX_ID_CHARACTERS
from realtime.protocol.payload import decode_object, encode_data, size_in_bytes

TRUNCATED = "truncated"
_MAX_KEPT = 16 * 1024
_MIN_KEPT = 16


def truncate_json(data: object, *, max_bytes: int) -> str:
    """Return the JSON text of `data`, truncated to at most `max_bytes` bytes.

    Long strings, arrays and objects are cut at any depth, as far as necessary. `truncated: true` is added at the top
    level. The structure that clients use is kept, and no id is cut.

    Raises:
        ValueError: if the data is too large even when truncated, for example with thousands of top-level keys.
    """
    return truncate_text(encode_data(data), max_bytes=max_bytes)


def truncate_text(text: str, *, max_bytes: int) -> str:
    """Return the JSON text of an object, truncated like the data of `truncate_json`.

    Raises:
        ValueError: if it is too large even when truncated, for example with thousands of top-level keys.
    """
    if size_in_bytes(text) <= max_bytes:
        return text
    fields = decode_object(text)
    kept = min(_MAX_KEPT, max_bytes)
    while kept >= _MIN_KEPT:
        cut = {key: _cut(value, max(kept, MAX_ID_CHARACTERS), kept) for key, value in fields.items()}
        text = encode_data({**cut, TRUNCATED: True})
        if size_in_bytes(text) <= max_bytes:
            return text
        kept //= 2
    raise ValueError(
        f"The event's data takes {size_in_bytes(text)} bytes: expected at most {max_bytes}, even when truncated"
    )


def _cut(value: Any, characters: int, items: int) -> Any:
    """Cut strings to `characters`, and arrays and objects to `items`. Both limits shrink with each level."""
    if isinstance(value, str):
        return value if len(value) <= characters else value[:characters] + "…"
    below = max(items // 4, 1)
    if isinstance(value, list):
        return [_cut(item, characters // 2, below) for item in value[:items]]
    if isinstance(value, dict):
        return {key[:characters]: _cut(item, characters // 2, below) for key, item in list(value.items())[:items]}
    return value
