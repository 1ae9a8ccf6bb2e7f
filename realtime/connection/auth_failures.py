"""The refused credentials of each address. After too many in a minute, it has to wait, and costs no more checks."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

WINDOW_SECONDS: Final = 60.0
"""The time in which failures are counted, and for which an address with too many of them has to wait."""

MAX_TRACKED_ADDRESSES: Final = 10_000
"""Addresses whose failures are counted, 2 MiB. Above it, the one without a failure for longest is forgotten."""


@dataclass(slots=True)
class _Failures:
    first_at: float
    count: int = 0
    waits_until: float = 0.0


class AuthFailures:
    """Counts failures of addresses. Times are seconds on a monotonic clock; an address of None is not counted."""

    def __init__(self) -> None:
        self._by_address: OrderedDict[str, _Failures] = OrderedDict()

    def add(self, address: str | None, *, limit: int, now: float) -> None:
        """Count a failure. An address with `limit` failures in a minute has to wait; a limit of 0 is none."""
        if address is None or not limit:
            return
        failures = self._by_address.get(address)
        if failures is None or now - failures.first_at >= WINDOW_SECONDS:
            failures = self._by_address[address] = _Failures(first_at=now)
            if len(self._by_address) > MAX_TRACKED_ADDRESSES:
                self._by_address.popitem(last=False)
        self._by_address.move_to_end(address)
        failures.count += 1
        if failures.count >= limit:
            failures.waits_until = now + WINDOW_SECONDS
            failures.first_at = now

    def wait_seconds(self, address: str | None, *, now: float) -> float:
        """Return how long an address still has to wait; 0 if it may connect."""
        failures = None if address is None else self._by_address.get(address)
        return 0.0 if failures is None else max(failures.waits_until - now, 0.0)


auth_failures = AuthFailures()
