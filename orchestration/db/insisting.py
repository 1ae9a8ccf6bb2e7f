"""A database that does not answer for a moment is asked again, for as long as somebody waits who has work to lose."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from django.db import Error as DatabaseError

from orchestration.db.retry import Value, until_answered
from orchestration.limits import engine_limits

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0


def insist(call: Callable[[], Value]) -> Value:
    """Return what the call returns; while the database does not answer, call again and again, as long as a lease lasts.

    The call is made outside of any transaction, or once: what came before it in the transaction is lost.

    Raises:
        OperationalError, InterfaceError: the database was away for longer.
    """
    deadline = time.monotonic() + engine_limits().lease_seconds
    pause = _FIRST_PAUSE_SECONDS

    def wait(error: DatabaseError) -> None:
        nonlocal pause
        if time.monotonic() + pause > deadline:
            raise error
        logger.warning("The database does not answer; trying again in %.2f s", pause)
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    return until_answered(call, when_away=wait)
