"""How an event's data is kept within its bound: a result that is larger is stored whole and cut in the event."""

from __future__ import annotations

from typing import Any

from realtime.protocol.channels import MAX_ID_CHARACTERS
from realtime.protocol.payload import decode_object, encode_data

TRUNCATED = "truncated"
_FIRST_KEPT = 16 * 1024
_LAST_KEPT = 16


def truncate(data: object, *, max_bytes: int) -> str:
    """The JSON text of `data`, cut so that it takes at most `max_bytes` bytes.

    What is cut are long strings and long arrays or objects, wherever they stand, to as few characters and items as
    needed; `truncated: true` is added at the top. The shape that clients rely on stays, and so does every id.

    Raises:
        ValueError: if not even that makes it fit, as with thousands of keys at the top.
    """
    text = encode_data(data)
    if len(text.encode()) <= max_bytes:
        return text
    fields = decode_object(text)
    kept = min(_FIRST_KEPT, max_bytes)
    while kept >= _LAST_KEPT:
        cut = {key: _cut(value, max(kept, MAX_ID_CHARACTERS), kept) for key, value in fields.items()}
        text = encode_data({**cut, TRUNCATED: True})
        if len(text.encode()) <= max_bytes:
            return text
        kept //= 2
    raise ValueError(f"The event's data takes {len(text.encode())} bytes: expected at most {max_bytes}, even when cut")


def _cut(value: Any, characters: int, items: int) -> Any:
    """Strings to `characters`, arrays and objects to `items`, and to fewer the deeper they stand."""
    if isinstance(value, str):
        return value if len(value) <= characters else value[:characters] + "…"
    below = max(items // 4, 1)
    if isinstance(value, list):
        return [_cut(item, characters // 2, below) for item in value[:items]]
    if isinstance(value, dict):
        return {key[:characters]: _cut(item, characters // 2, below) for key, item in list(value.items())[:items]}
    return value
