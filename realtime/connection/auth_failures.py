"""The refused credentials of each address. After too many in a minute, it has to wait, and costs no more checks."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from realtime.connection.refusal_counter import RefusalCounter

MAX_TRACKED_ADDRESSES: Final = 10_000
"""Addresses whose failures are counted: 11 MiB with the default limit. Above it, the one whose last failure is
oldest is forgotten."""


class AuthFailures:
    """Counts failures of addresses. Times are seconds on a monotonic clock; an address of None is not counted."""

    def __init__(self) -> None:
        self._by_address: OrderedDict[str, RefusalCounter] = OrderedDict()

    def add(self, address: str | None, *, limit: int, now: float) -> None:
        """Count a failure. An address with `limit` failures in a minute has to wait; a limit of 0 is none."""
        if address is None or not limit:
            return
        failures = self._by_address.get(address)
        if failures is None:
            failures = self._by_address[address] = RefusalCounter(limit)
            if len(self._by_address) > MAX_TRACKED_ADDRESSES:
                self._by_address.popitem(last=False)
        self._by_address.move_to_end(address)
        failures.add(now=now)

    def wait_seconds(self, address: str | None, *, now: float) -> float:
        """Return how long an address still has to wait; 0 if it may connect."""
        failures = None if address is None else self._by_address.get(address)
        return 0.0 if failures is None else failures.wait_seconds(now=now)


auth_failures = AuthFailures()
