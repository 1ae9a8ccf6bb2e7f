"""Quotas of one client address: open connections, and new connections a second. They apply to one server process.

Without them, one address could hold every connection of the process, and all others would be rejected.
"""

from __future__ import annotations

from collections import Counter, OrderedDict

from django.conf import settings

from realtime.connection.client_address import ClientAddress
from realtime.connection.rate_limit import TokenBucket
from realtime.limits import Limits

MAX_TRACKED_ADDRESSES = 10_000
"""Addresses whose new connections are counted, 2 MiB. Above it, the address without new ones for longest is forgotten,
which gives it a new burst."""


def quota_owner(client: ClientAddress) -> str | None:
    """Return the address to which the connection of a client is charged; None if it has no quota.

    Clients on this machine have none while the server serves only them, unless `MAX_CONNECTIONS_PER_ADDRESS` is set. A
    client on a Unix socket has none.
    """
    limits: Limits = settings.MAHAVISHNU_LIMITS
    if client.address is None or not limits.max_connections_per_address:
        return None
    if client.is_direct_loopback and not _counts_loopback():
        return None
    return client.owner


def _counts_loopback() -> bool:
    return bool(settings.MAHAVISHNU_COUNTS_LOOPBACK or settings.MAHAVISHNU_EXPOSED)


class OpenConnections:
    """The number of open connections of each address. An owner of None is not counted."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, owner: str | None) -> int:
        """Count one more connection; return the number of its owner, or 0."""
        if owner is None:
            return 0
        self._counts[owner] += 1
        return self._counts[owner]

    def count(self, owner: str) -> int:
        """Return the number of connections of an address."""
        return self._counts[owner]

    def remove(self, owner: str | None) -> None:
        """Undo one `add`."""
        if owner is not None:
            self._counts[owner] -= 1
            if not self._counts[owner]:
                del self._counts[owner]


class ConnectRates:
    """The rate of new connections of each address: a token bucket for each."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, owner: str | None, *, limits: Limits, now: float) -> float:
        """Count one new connection.

        Args:
            owner: The address that it is charged to, if any.
            limits: The rate and the burst.
            now: Seconds on a monotonic clock.

        Returns:
            0 if it is allowed, else the seconds until the next one is.
        """
        if owner is None:
            return 0.0
        bucket = self._buckets.get(owner)
        if bucket is None:
            bucket = self._buckets[owner] = TokenBucket(limits.max_connects_per_second, limits.max_connect_burst, now)
            if len(self._buckets) > MAX_TRACKED_ADDRESSES:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(owner)
        return 0.0 if bucket.take(now) else bucket.seconds_until(1)

    def wait_seconds(self, owner: str | None, *, now: float) -> float:
        """Return what `take` would return, without counting a connection."""
        bucket = None if owner is None else self._buckets.get(owner)
        if bucket is None:
            return 0.0
        bucket.fill(now)
        return bucket.seconds_until(1)


connect_rates = ConnectRates()
