"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random
from collections.abc import Callable

from mahavishnu_client.options import Options

AT_ONCE_AFTER = frozenset({None, 1000, 1001, 1005, 1006, 1009})
"""Close codes after which the first attempt follows at once. After others, the server needs a pause."""


class Backoff:
    """The pauses between attempts: none, then random up to half a second, doubled up to 10 seconds.

    Args:
        options: `first_retry_seconds` and `max_retry_seconds`.
        draw: Returns a random number from 0 to 1.
    """

    def __init__(self, options: Options, draw: Callable[[], float] = random.random) -> None:
        self._options = options
        self._draw = draw
        self._attempts = 0

    def reset(self) -> None:
        """Forget earlier attempts: a connection was stable."""
        self._attempts = 0

    def pause_seconds(self, *, close_code: int | None = None, retry_after_ms: int | None = None) -> float:
        """Return the pause before the next attempt, and count it.

        Args:
            close_code: The close code of the last connection; None if the attempt failed.
            retry_after_ms: The time that the server gave this client, which goes before everything else.
        """
        attempt = self._attempts
        self._attempts += 1
        if retry_after_ms is not None:
            return retry_after_ms / 1000
        first, longest = self._options.first_retry_seconds, self._options.max_retry_seconds
        if close_code not in AT_ONCE_AFTER:
            # At least half of it: a random part near 0 would be no pause.
            return float(min(longest, first * 2 ** min(attempt, 30))) * (1 + self._draw()) / 2
        if attempt == 0:
            return 0.0
        return float(min(longest, first * 2 ** min(attempt - 1, 30))) * self._draw()
