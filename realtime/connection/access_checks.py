"""End the open connections of this process whose tokens are revoked, or whose logins have ended.

It asks the database every second. Redis has no part in it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from orchestration.log_throttle import LogThrottle
from realtime.auth.ended_sessions import SessionCheck
from realtime.auth.revocation import has_revocations, read_revocations, revoked, set_polled
from realtime.connection.registry import connection_registry
from realtime.database import in_revocation_thread

logger = logging.getLogger(__name__)
_revocations_unread = LogThrottle(logger)
_sessions_unread = LogThrottle(logger)

CHECK_INTERVAL_SECONDS: Final = 1.0
"""How often. A connection ends within two seconds."""


async def check_access_periodically() -> None:
    """Read revocations, and the sessions of open connections if there are any, every second."""
    sessions = SessionCheck()
    set_polled(True)
    try:
        while True:
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)
            await _end_revoked()
            await _end_with_sessions(sessions)
    finally:
        set_polled(False)


async def _end_revoked() -> None:
    try:
        await read_revocations()
    except Exception as error:
        _revocations_unread.log("Reading the revoked tokens failed (%r); those read before remain revoked", error)
    if not has_revocations():
        return
    for connection in connection_registry:
        if revoked(connection.identity):
            connection.on_revoked()


async def _end_with_sessions(sessions: SessionCheck) -> None:
    identities = [connection.identity for connection in connection_registry if connection.identity.session_key]
    if not identities:
        return
    try:
        ended = await in_revocation_thread(sessions.ended, identities)
    except Exception as error:
        _sessions_unread.log("Reading the logins of open connections failed (%r); the next read follows", error)
        return
    if not ended:
        return
    for connection in connection_registry:
        if connection.identity.session_key in ended:
            connection.on_revoked()
