"""JSON outside of messages: event data as the log stores it, and lines of input."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, Final

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


def decode_strictly(text: str, *, max_depth: int, max_containers: int) -> Any:
    """Decode any JSON value. Unlike the other functions here, reject what two readers could read differently.

    Raises:
        ValueError: if `text` is not JSON, has a key twice or half a surrogate pair, is nested deeper than
            `max_depth`, or has more than `max_containers` objects and arrays.
    """
    # Counted first: decoding them takes seconds, in which the interpreter does nothing else.
    if _count_containers(text) > max_containers:
        raise ValueError(f"more than {max_containers} objects and arrays")
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_reject_constant)
    except RecursionError:
        raise ValueError(f"nested deeper than {max_depth}") from None
    if _is_deeper(value, max_depth):
        raise ValueError(f"nested deeper than {max_depth}")
    if _SURROGATE.search(text) is not None and _has_half_surrogate(value):
        raise ValueError("a text has half a surrogate pair")
    return value


_NESTED: Final = frozenset({dict, list})
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def _has_half_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        # Not `list.count`: with the keys that fit into a body, it would run for minutes.
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"an object has the key {twice[:64]!r} twice")
    return found


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _count_containers(text: str) -> int:
    """Return how many objects and arrays begin in JSON text, in linear time. Of other text the number means nothing."""
    # Without escapes, every second part between quotation marks is outside of strings.
    outside = "".join(text.replace(r"\\", "").replace(r"\"", "").split('"')[::2])
    return outside.count("{") + outside.count("[")


def _is_deeper(value: Any, depth: int) -> bool:
    if isinstance(value, dict):
        return depth == 0 or any(_is_deeper(each, depth - 1) for each in value.values() if type(each) in _NESTED)
    if isinstance(value, list):
        return depth == 0 or any(_is_deeper(each, depth - 1) for each in value if type(each) in _NESTED)
    return False


def first_members(text: str) -> list[tuple[str, str]]:
    """Return the names and the JSON text of the members with which an object begins.

    The text may end anywhere, as the beginning of stored data does. Of the last member, only the beginning is returned
    then, with an ellipsis.
    """
    decoder, members, position = json.JSONDecoder(), [], 1
    while position < len(text) and text[position] == '"':
        try:
            name, position = decoder.raw_decode(text, position)
        except ValueError:
            break
        start = position + 1
        try:
            _, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            members.append((name, text[start:] + "…"))
            break
        # A number may continue.
        members.append((name, text[start:position] + ("…" if position == len(text) else "")))
        position += 1
    return members


def indent_json(text: str) -> str:
    """Return the same JSON, one member per line and indented by two spaces."""
    return msgspec.json.format(text, indent=2)
