"""Cursors: where the next page of a list begins, as an opaque text for the client."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from realtime.protocol.channels import ID_PATTERN

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMED = re.compile(rf"(-?[0-9]{{1,18}})/({ID_PATTERN})")
_ID = re.compile(ID_PATTERN)


class TimedCursor(NamedTuple):
    """The last row of a page of a list that is ordered by time and id."""

    at: datetime
    id: str


class InvalidCursor(ValueError):
    """A text that is not the cursor of a page."""

    def __str__(self) -> str:
        return "Invalid cursor in `data.cursor`: expected the `next_cursor` of an earlier page of the same list"


def encode_timed_cursor(at: datetime, row_id: str) -> str:
    """Return the cursor of a row in a list that is ordered by time and id."""
    return _encode(f"{(at - _EPOCH) // timedelta(microseconds=1)}/{row_id}")


def decode_timed_cursor(cursor: str) -> TimedCursor:
    """Return the time and the id of a cursor.

    Raises:
        InvalidCursor: if it is none.
    """
    found = _TIMED.fullmatch(_decode(cursor))
    if found is None:
        raise InvalidCursor
    try:
        return TimedCursor(_EPOCH + timedelta(microseconds=int(found[1])), found[2])
    except OverflowError:
        raise InvalidCursor from None


def encode_id_cursor(row_id: str) -> str:
    """Return the cursor of a row in a list that is ordered by id."""
    return _encode(row_id)


def decode_id_cursor(cursor: str) -> str:
    """Return the id of a cursor.

    Raises:
        InvalidCursor: if it is none.
    """
    found = _ID.fullmatch(_decode(cursor))
    if found is None:
        raise InvalidCursor
    return found[0]


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str) -> str:
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidCursor from None
