"""Events of any size, announced by another process."""

from __future__ import annotations

from tests.harness.server import MahavishnuServer

ANNOUNCE = """
from datetime import datetime, timezone
from django.db import transaction
from realtime.events import announce_as_given
with transaction.atomic():
    for size in sizes:
        announce_as_given("workflow.test", data={"padding": "é" * (size // 2)}, rooms=(room,),
                          timestamp=datetime.now(timezone.utc))
"""


def announce(server: MahavishnuServer, room: str, *sizes: int) -> None:
    """Announce one event of about each size, in bytes, all in one transaction of another process."""
    server.services_driver.execute(ANNOUNCE, room=room, sizes=sizes)
