"""`manage.py prune_log` and `manage.py renew_epoch`, and what clients that resume are told after either."""

from __future__ import annotations

import asyncio
import re

from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

EVENTS = 10


async def resume(server: MahavishnuServer, **position: object) -> dict[str, object]:
    async with connect(server) as client:
        data: dict[str, object] = (await client.subscribe("global", **position))["data"]
        return data


async def compared(server: MahavishnuServer, seq: int) -> None:
    """Return when the server has compared itself with the log up to there: to prune earlier ends subscriptions."""
    async with asyncio.timeout(30):
        while True:
            async with connect(server) as client:
                if client.welcome["data"]["seq"] >= seq:
                    return


async def test_what_is_pruned_can_no_longer_be_resumed_from(start_server: StartServer) -> None:
    server = start_server(min_log_age_seconds=0)
    for number in range(EVENTS):
        server.services.create_pool(pool_id=f"pool_{number}")
    epoch = (await resume(server, since=0))["epoch"]
    await compared(server, EVENTS)
    nothing = server.manage("prune_log")
    assert (nothing.returncode, nothing.stdout) == (0, "Pruned 0 events; kept are those after 0, up to 10.\n")
    some = server.manage("prune_log", "--max-events", "4")
    assert (some.returncode, some.stdout) == (0, "Pruned 6 events; kept are those after 6, up to 10.\n")
    answers = [await resume(server, since=since) for since in (5, 6)]
    told = {"channel": "global", "status": "subscribed", "seq": EVENTS, "epoch": epoch}
    assert answers == [
        {**told, "recovered": False, "missed": 0, "reason": "trimmed"},
        {**told, "recovered": True, "missed": 4},
    ]


async def test_after_a_new_epoch_every_client_starts_over(start_server: StartServer) -> None:
    server = start_server()
    server.services.create_pool(pool_id="pool_a")
    before = await resume(server, since=0)
    assert (before["recovered"], before["missed"]) == (True, 1)
    async with connect(server) as client:
        await client.subscribe("global")
        done = server.manage("renew_epoch")
        assert await client.wait_closed() == (1012, "EVENTS_TRIMMED")
    answer = await resume(server, since=1, epoch=before["epoch"])
    assert (done.returncode, done.stdout) == (0, f"The epoch of the event log is now {answer['epoch']}.\n")
    assert answer["epoch"] != before["epoch"]
    assert (answer["recovered"], answer["reason"]) == (False, "epoch")


def test_events_that_are_young_stay(start_server: StartServer) -> None:
    server = start_server(started=False)
    server.manage("emit_test_event", "a.b")
    done = server.manage("prune_log", "--max-events", "1", "--max-age-seconds", "1")
    assert (done.returncode, done.stdout.partition(";")[0]) == (0, "Pruned 0 events")


def test_bad_numbers_and_an_unprepared_database_are_told_in_words(start_server: StartServer) -> None:
    server = start_server(started=False)
    refused = server.manage("prune_log", "--max-events", "0")
    assert refused.returncode == 2
    assert refused.stderr.endswith("--max-events: '0': expected a whole number from 1 to 10000000000\n")
    server.environment["DATABASE_URL"] = f"sqlite:///{server.var_dir}/empty.sqlite3"
    commands = (
        "prune_log",
        "renew_epoch",
        "emit_test_event a.b",
        "simulate --duration 1",
        "drain_pool p",
        "reopen_pool p",
    )
    for command in commands:
        done = server.manage(*command.split())
        assert done.returncode == 1
        assert re.fullmatch(
            r"CommandError: The database cannot be used: no such table: \w+\. "
            r"DATABASE_URL names it, and `manage\.py migrate` prepares it\.",
            done.stderr.splitlines()[-1],
        )
