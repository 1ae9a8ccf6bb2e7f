"""Numbered events in the log, and subscriptions that resume from a position of it."""

from __future__ import annotations

from typing import Any

from tests.harness.client import Client, Message
from tests.harness.matchers import A_NUMBER, AN_EPOCH, a_response
from tests.harness.server import MahavishnuServer

# The test process cannot append many events of one room quickly, so another process does.
_ANNOUNCE = """
from django.db import transaction
from django.utils import timezone
from realtime.events.receivers import announce_as_given

for first in range(0, count, per_transaction):
    with transaction.atomic():
        for number in range(first, min(first + per_transaction, count)):
            announce_as_given("test", data={"number": number}, rooms=(room,), timestamp=timezone.now())
"""

_ANNOUNCE_LARGE = """
from django.db import transaction
from django.utils import timezone
from realtime.events.receivers import announce_as_given

with transaction.atomic():
    for number in range(400):
        data = {"number": number, "filling": "x" * 60_000}
        announce_as_given("test", data=data, rooms=(room,), timestamp=timezone.now())
"""

_PRUNE = """
from django.conf import settings
from django.utils import timezone
from realtime.eventlog.retention import Retention, prune_events
prune_events(Retention.from_limits(settings.MAHAVISHNU_LIMITS), at=timezone.now())
"""


def announce(server: MahavishnuServer, room: str, count: int, *, per_transaction: int = 1000) -> None:
    """Append `count` events to the log of a room, numbered from 0."""
    server.services_driver.execute(_ANNOUNCE, room=room, count=count, per_transaction=per_transaction)


def announce_large(server: MahavishnuServer, room: str) -> None:
    """Append 400 numbered events of 60 kB each, 24 MB in all, in one transaction."""
    server.services_driver.execute(_ANNOUNCE_LARGE, room=room)


def prune(server: MahavishnuServer) -> None:
    """Prune the log as the server would."""
    server.services_driver.execute(_PRUNE)


def numbers(events: list[Message]) -> list[int]:
    return [event["data"]["number"] for event in events]


async def resume(client: Client, channel: str, **options: Any) -> dict[str, Any]:
    """Subscribe, check the whole response, and return its data."""
    answer = await client.subscribe(channel, **options)
    data: dict[str, Any] = answer["data"]
    common = {"status": "subscribed", "channel": channel, "seq": A_NUMBER, "epoch": AN_EPOCH}
    assert answer == a_response("subscribe", {**data, **common}, answer["correlation_id"])
    return data


async def newest_seq(client: Client) -> int:
    """Return the log's current position; that of `session.created` may be half a second old."""
    seq: int = (await resume(client, "worker:unused", snapshot=True))["seq"]
    return seq
