"""Validate the arguments of services before any write, so that every database returns exactly what was stored."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from django.utils import timezone

from orchestration.identifiers import IDENTIFIER_EXPECTED, is_identifier
from orchestration.models.stage import MAX_STAGE_NAME_LENGTH
from orchestration.services.errors import ServiceError

# Postgres cannot store NUL in text or JSON. In JSON text, NUL is an escape after an even number of backslashes.
_ESCAPED_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

# Far below the depth at which Python's JSON encoder and decoder fail, which depends on the depth of the call stack.
MAX_JSON_DEPTH: Final = 100


class InvalidArgument(ServiceError):
    """An argument has a value that cannot be stored."""

    def __init__(self, argument: str, value: object, expected: str) -> None:
        self.argument = argument
        self.value = value
        self.expected = expected
        super().__init__(argument, value, expected)

    def __str__(self) -> str:
        return f"{self.argument} is {reprlib.repr(self.value)}; expected {self.expected}."


class InvalidIdentifier(InvalidArgument):
    """An id has characters that a channel name cannot contain, or the wrong length."""

    def __init__(self, argument: str, value: object) -> None:
        super().__init__(argument, value, IDENTIFIER_EXPECTED)
        self.args = (argument, value)


def identifier(argument: str, value: str) -> str:
    """Return a valid id.

    Raises:
        InvalidIdentifier: if it is not one.
    """
    if not isinstance(value, str) or not is_identifier(value):
        raise InvalidIdentifier(argument, value)
    return value


def timestamp(at: datetime | None) -> datetime:
    """Return the time of a change in UTC: `at`, or now if it is None.

    In another zone, one hour occurs twice, and the two times are equal unless both are converted.

    Raises:
        InvalidArgument: if it has no time zone.
    """
    if at is None:
        return timezone.now()
    if timezone.is_naive(at):
        raise InvalidArgument("at", at, "a datetime with a time zone")
    return at.astimezone(UTC)


def text(argument: str, value: str, *, max_length: int | None = None, may_be_empty: bool = True) -> str:
    """Return the text; `max_length` is in characters.

    Raises:
        InvalidArgument: if it is too long, blank where that is not allowed, or not storable in a database.
    """
    limit = "text" if max_length is None else f"text of at most {max_length} characters"
    expected = f"{limit}{'' if may_be_empty else ', not blank'}, without NUL or half a surrogate pair"
    if (
        not isinstance(value, str)
        or "\x00" in value
        or (max_length is not None and len(value) > max_length)
        or not (may_be_empty or value.strip())
        or not _is_unicode(value)
    ):
        raise InvalidArgument(argument, value, expected)
    return value


def integer(argument: str, value: object, *, largest: int) -> int:
    """Return an integer from 0 to `largest`.

    Raises:
        InvalidArgument: if it is not one.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise InvalidArgument(argument, value, f"an integer from 0 to {largest}")
    return value


# `json.dumps` would make an encoder for each call.
_encode_json: Final = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode


def json_object(argument: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the object as it will be read back from JSON: tuples as lists, keys as strings; {} for None.

    Raises:
        InvalidArgument: if it is not a mapping, is too deep, or has values that JSON or a database cannot store.
    """
    expected = f"a JSON object at most {MAX_JSON_DEPTH} deep, without NaN, infinity, NUL or half a surrogate pair"
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidArgument(argument, value, expected)
    try:
        encoded = _encode_json(dict(value))
        encoded.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(argument, value, expected) from error
    if _ESCAPED_NUL.search(encoded):
        raise InvalidArgument(argument, value, expected)
    decoded: dict[str, Any] = json.loads(encoded)
    if _is_deeper(decoded, MAX_JSON_DEPTH):
        raise InvalidArgument(argument, value, expected)
    return decoded


def stage_names(argument: str, names: Sequence[str]) -> list[str]:
    """Return the names of a workflow's stages, in order.

    Raises:
        InvalidArgument: if the list is empty, a name is blank or too long, or two are equal.
    """
    expected = f"at least one name, none twice, each of at most {MAX_STAGE_NAME_LENGTH} characters"
    if isinstance(names, str) or not names:
        raise InvalidArgument(argument, names, expected)
    checked = [text(argument, name, max_length=MAX_STAGE_NAME_LENGTH, may_be_empty=False) for name in names]
    if len(set(checked)) < len(checked):
        raise InvalidArgument(argument, names, expected)
    return checked


def _is_deeper(value: object, depth: int) -> bool:
    """Check whether objects and arrays are nested more than `depth` deep."""
    if not isinstance(value, dict | list):
        return False
    if depth == 0:
        return True
    return any(_is_deeper(item, depth - 1) for item in (value.values() if isinstance(value, dict) else value))


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
