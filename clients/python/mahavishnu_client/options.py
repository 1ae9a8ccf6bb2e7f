"""The times and bounds of a client."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The times and bounds of a client. The defaults suit a server on the internet.

    Attributes:
        ping_after_seconds: Silence after which the client pings; None: what the server recommends, else 10 seconds.
        pong_within_seconds: How long the answer may take. Then the connection is stale, and the client reconnects.
        probe_within_seconds: The same after `probe()` and after a jump of the clock.
        clock_jump_seconds: A jump of the clock by more than this probes the connection: the machine has slept.
        first_retry_seconds: Longest pause before the second attempt to reconnect. The first follows at once.
        max_retry_seconds: Longest pause between attempts. Each pause is random, up to twice the one before.
        open_timeout_seconds: How long one attempt to connect may take.
        stable_after_seconds: A connection that lived shorter counts as another failed attempt.
        request_timeout_seconds: How long a request may take, with the time to connect.
        reread_after_seconds: Shortest time between two snapshots of a state that stays truncated.
        max_queued_events: Events, or chunks, that may wait for the caller of one iterator. See `EventStream`.
        max_queued_bytes: The same in bytes of messages; for a stream of chunks, in its own bytes.
        max_message_bytes: Longest message that the client accepts.
        wall_clock: The clock of the machine, in seconds.
    """

    ping_after_seconds: float | None = None
    pong_within_seconds: float = 5.0
    probe_within_seconds: float = 2.0
    clock_jump_seconds: float = 30.0
    first_retry_seconds: float = 0.5
    max_retry_seconds: float = 10.0
    open_timeout_seconds: float = 5.0
    stable_after_seconds: float = 1.0
    request_timeout_seconds: float = 30.0
    reread_after_seconds: float = 5.0
    max_queued_events: int = 10_000
    max_queued_bytes: int = 16 * MIB
    max_message_bytes: int = 32 * MIB
    wall_clock: Callable[[], float] = time.time
