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

ACCEPTS_PER_ITERATION: Final = 64
"""Twisted accepts 20 more with each iteration that finds as many, without a bound: a client that connected without
pause delayed every event by 0.9 s. With 64, it delays the median event by 1.2 ms, and a hundred connections take 2 %
longer to open than without a limit; with 16, they took 29 % longer. Several processes on one socket accept up to 54
after a delay: see `accept_balancer`."""

MAX_ANSWERS_PER_SECOND: Final = 50
"""Connections of addresses that connect too fast, all together, that are answered with 429; as many at once. An answer
costs five times as much as to close the connection."""


class LimitedFactory:
    """One of Twisted's factories, which builds no protocol for a connection that is closed at once.

    Ports share the factory inside, so each has its own one of these. `answers` belongs to the process.
    """

    def __init__(self, factory: Any, answers: TokenBucket) -> None:
        self._factory = factory
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._factory, name)

    def buildProtocol(self, address: Any) -> Any:  # noqa: N802
        """Return the protocol of a new connection, or None if it exceeds the rate of its address and of the answers."""
        peer: str | None = getattr(address, "host", None)
        return None if self._exceeds_rates(peer) else self._factory.buildProtocol(address)

    def _exceeds_rates(self, peer: str | None) -> bool:
        # Until a connection has been charged to an address, none exceeds its rate. On loopback none is, by default.
        if len(connect_rates) == 0 or is_trusted_proxy(peer):
            return False
        owner, now = quota_owner(client_address(peer, ())), asyncio.get_running_loop().time()
        # One that exceeds only the first rate is answered by `realtime.daphne_server.http`.
        if not connect_rates.wait_seconds(owner, now=now) or self._answers.take(now):
            return False
        _closed.log(
            "Closed a connection from %s: too many new connections a second (MAHAVISHNU_MAX_CONNECTS_PER_SECOND); more "
            "than %d were answered 429 in the last second",
            owner,
            MAX_ANSWERS_PER_SECOND,
        )
        return True


class LimitedPort:
    """Applies the limits to one of Twisted's listening ports.

    Args:
        port: The port.
        answers: The bucket of the process for answers to connections that are too many.
    """

    def __init__(self, port: Any, answers: TokenBucket) -> None:
        self._port = port
        self._do_accept = port.doRead
        port.doRead = self._on_readable
        port.factory = LimitedFactory(port.factory, answers)

    def _on_readable(self) -> None:
        self._accept(ACCEPTS_PER_ITERATION)

    def _accept(self, at_most: int) -> None:
        self._port.numberAccepts = at_most
        self._do_accept()


def answers_of_process() -> TokenBucket:
    """Return a full bucket of answers. The event loop may not run yet."""
    return TokenBucket(MAX_ANSWERS_PER_SECOND, MAX_ANSWERS_PER_SECOND, now=0)
