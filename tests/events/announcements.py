"""Announce events of any size from another process."""

from __future__ import annotations

import pytest

from tests.harness.server import MahavishnuServer
from tests.harness.services import DriverExitedError

ANNOUNCE = """
from datetime import datetime, timezone
from django.db import transaction
from realtime.events.receivers import announce_as_given
with transaction.atomic():
    for size in sizes:
        announce_as_given("workflow.test", data={"padding": "é" * (size // 2)}, rooms=(room,),
                          timestamp=datetime.now(timezone.utc))
"""


DIE_INSTEAD_OF_PUBLISHING = """
import os, signal
from realtime.broadcast.publisher import Publisher
Publisher.publish = lambda self, deliveries: os.kill(os.getpid(), signal.SIGKILL)
"""


def announce(server: MahavishnuServer, room: str, *sizes: int) -> None:
    """Announce one event of about each size, in bytes, all in one transaction of another process."""
    server.services_driver.execute(ANNOUNCE, room=room, sizes=sizes)


def announce_unpublished(server: MahavishnuServer, room: str, *sizes: int) -> None:
    """Announce the same from a process killed between its commit and publishing: a relay reads all of it at once."""
    with pytest.raises(DriverExitedError):
        server.driver().execute(DIE_INSTEAD_OF_PUBLISHING + ANNOUNCE, room=room, sizes=sizes)
