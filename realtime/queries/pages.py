"""What all lists have in common."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol, TypeVar

from realtime.limits import Limits

P_co = TypeVar("P_co", covariant=True)


class PageQuery(Hashable, Protocol[P_co]):
    """What a client wants to read. Clients with equal queries share a read."""

    @property
    def is_first(self) -> bool:
        """Whether it begins a list. Later pages leave half of the time to others, like the later reads of a replay."""

    def read(self, limits: Limits) -> P_co:
        """Read the page, in one consistent read."""
