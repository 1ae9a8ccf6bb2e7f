"""How fast messages may be sent, so that the server discards none."""

from __future__ import annotations

from mahavishnu_client.protocol import SessionLimits

_USED_PART = 0.8
"""Part of the server's limits that the client uses: the two clocks and the network are not exact."""


class Pace:
    """A token bucket a little smaller than the server's.

    Args:
        limits: The limits of the server.
        now: The time in seconds.
    """

    def __init__(self, limits: SessionLimits, *, now: float) -> None:
        self._per_second = limits.max_messages_per_second * _USED_PART
        self._burst = max(1.0, limits.max_message_burst * _USED_PART)
        self._tokens = self._burst
        self._at = now

    def pause_seconds(self, *, now: float) -> float:
        """Count one message, and return how long to wait before it is sent."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second) - 1
        self._at = now
        return 0.0 if self._tokens >= 0 else -self._tokens / self._per_second
