"""The log of who came in, and who was refused: its own logger, with the user, the address and the connection.

No line contains a token. Strangers can repeat each event, so it is logged ten times in `MAHAVISHNU_LOG_REPEAT_SECONDS`,
and the others are counted.
"""

from __future__ import annotations

import logging
from typing import Final

from orchestration.log_throttle import LogThrottle

logger: Final = logging.getLogger("realtime.security")

MAX_LINES: Final = 10
"""Lines of one event in `MAHAVISHNU_LOG_REPEAT_SECONDS`."""

_throttles: dict[str, LogThrottle] = {}


def log_security_event(event: str, detail: str, *, user_id: str, token_id: str | None = None, source: str) -> None:
    """Log one event, such as `auth.failed`.

    Args:
        event: What happened.
        detail: How or why, in our own words.
        user_id: Whose credentials these are, if that is proven.
        token_id: Which token, if that is proven.
        source: Where they came from: the connection and its address.
    """
    throttle = _throttles.get(event)
    if throttle is None:
        throttle = _throttles[event] = LogThrottle(logger, level=logging.INFO, max_lines=MAX_LINES)
    throttle.log("%s (%s) by user %r, token %r, on %s", event, detail, user_id, token_id, source)
