"""What all lists have in common: a page is bounded in rows, in bytes, and in the rows that it examines."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from realtime.eventlog.position import Position
from realtime.limits import Limits
from realtime.protocol.payload import encode_data, size_in_bytes

MAX_EXAMINED_ROWS: Final = 2000
"""Rows that one page examines at most, if few of them are wanted."""

EXAMINED_ROW_BYTES: Final = 16
"""What a row counts that is examined or counted and not read: about its share of an index."""

SEARCHED_ROW_BYTES: Final = 128
"""The same for a row whose texts are searched: 5 to 50 us of processor time, and one that is examined 1 to 2."""

P_co = TypeVar("P_co", covariant=True)


class PageQuery(Hashable, Protocol[P_co]):
    """What a client wants to read. Clients with equal queries share a read."""

    @property
    def is_first(self) -> bool:
        """Whether it begins a list. Later pages leave half of the time to others, like the later reads of a replay."""

    def read(self, limits: Limits) -> P_co:
        """Read the page, in one consistent read."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a list.

    Attributes:
        position: Position of the log. The page has the changes of the events up to here, and of no later one.
        rows: JSON text of an array.
        next_cursor: Where the next page begins; None after the last page.
        cost_bytes: What the budget of a connection is charged for: the rows, and those that were only examined or
            counted. A page of few rows, or none, may have examined many.
    """

    position: Position
    rows: str
    next_cursor: str | None
    cost_bytes: int


class BoundedArray:
    """JSON text of an array that takes at most about `max_bytes`, but has at least one of the rows.

    Attributes:
        text: The array.
        length: How many of the rows it has.
        size_bytes: Size of the rows.
    """

    def __init__(self, rows: Iterable[object], *, max_bytes: int) -> None:
        texts: list[str] = []
        self.size_bytes = 0
        for row in rows:
            text = encode_data(row)
            size_bytes = size_in_bytes(text)
            if texts and self.size_bytes + size_bytes > max_bytes:
                break
            texts.append(text)
            self.size_bytes += size_bytes
        self.text = f"[{','.join(texts)}]"
        self.length = len(texts)
