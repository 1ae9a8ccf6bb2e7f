"""Limits for accepting connections: few in one iteration of the event loop, and little work for what is rejected.

A client that connects again and again costs processor time even if every connection is rejected. So an address that
connects too fast gets an answer as long as there are few such answers; further connections are closed at once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from orchestration.log_throttle import LogThrottle
from realtime.connection.address_quota import connect_rates, quota_owner
from realtime.connection.client_address import client_address, is_trusted_proxy
from realtime.connection.rate_limit import TokenBucket

logger = logging.getLogger(__name__)
_closed = LogThrottle(logger)

ACCEPTS_PER_ITERATION: Final = 1
"""Twisted accepts 20 more with each iteration that finds as many, without a bound: a client that connected without
pause delayed every event by 0.9 s."""

MAX_ANSWERS_PER_SECOND: Final = 50
"""Connections of addresses that connect too fast, all together, that are answered with 429; as many at once. An answer
costs five times as much as to close the connection."""


class BoundedPort:
    """Applies the limits to one of Twisted's listening ports."""

    def __init__(self, port: Any) -> None:
        self._port = port
        # The event loop does not run yet. The bucket is full at any later time of its clock.
        self._answers = TokenBucket(MAX_ANSWERS_PER_SECOND, MAX_ANSWERS_PER_SECOND, now=0)
        self._do_accept = port.doRead
        self._build_protocol = port.factory.buildProtocol
        port.doRead = self._on_readable
        port.factory.buildProtocol = self._protocol_of

    def _on_readable(self) -> None:
        self._accept(ACCEPTS_PER_ITERATION)

    def _accept(self, at_most: int) -> None:
        self._port.numberAccepts = at_most
        self._do_accept()

    def _protocol_of(self, address: Any) -> object | None:
        """Return the protocol of a new connection, or None if the connection is to be closed."""
        return None if self._is_closed_at_once(address) else self._build_protocol(address)

    def _is_closed_at_once(self, address: Any) -> bool:
        peer: str | None = getattr(address, "host", None)
        if is_trusted_proxy(peer):
            return False
        owner, now = quota_owner(client_address(peer, ())), asyncio.get_running_loop().time()
        if not connect_rates.wait_seconds(owner, now=now):
            return False
        self._answers.fill(now)
        if self._answers.tokens >= 1:
            self._answers.tokens -= 1
            return False  # `realtime.daphne_server.http` rejects it.
        _closed.log(
            "Closed a connection from %s: too many new connections a second (MAHAVISHNU_MAX_CONNECTS_PER_SECOND); more "
            "than %d were answered 429 in the last second",
            owner,
            MAX_ANSWERS_PER_SECOND,
        )
        return True
