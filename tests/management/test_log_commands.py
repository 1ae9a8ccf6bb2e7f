"""`manage.py prune_log` and `manage.py renew_epoch`, and what clients that resume receive afterwards."""

from __future__ import annotations

import re

from tests.harness.client import connect, wait_for_relay
from tests.harness.commands import command
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

EVENTS = 10


async def resume(server: MahavishnuServer, **position: object) -> dict[str, object]:
    async with connect(server) as client:
        data: dict[str, object] = (await client.subscribe("global", **position))["data"]
        return data


async def test_prune_log_and_renew_epoch_limit_where_clients_can_resume(start_server: StartServer) -> None:
    server = start_server(min_log_age_seconds=0)
    for number in range(EVENTS):
        server.services.create_pool(pool_id=f"pool_{number}")
    epoch = (await resume(server, since=0))["epoch"]
    await wait_for_relay(server, EVENTS)
    unchanged = command(server, "prune_log")
    assert (unchanged.returncode, unchanged.stdout) == (
        0,
        "Pruned 0 events; kept events after seq 0, up to seq 10\n",
    )
    pruned = server.manage("prune_log", "--max-events", "4")
    assert (pruned.returncode, pruned.stdout) == (0, "Pruned 6 events; kept events after seq 6, up to seq 10\n")
    responses = [await resume(server, since=since) for since in (5, 6)]
    subscribed = {"channel": "global", "status": "subscribed", "seq": EVENTS, "epoch": epoch}
    assert responses == [
        {**subscribed, "recovered": False, "missed": 0, "reason": "trimmed"},
        {**subscribed, "recovered": True, "missed": 4},
    ]
    async with connect(server) as client:
        await client.subscribe("global")
        done = server.manage("renew_epoch")
        assert await client.wait_closed() == (1012, "EVENTS_TRIMMED")
    after = await resume(server, since=EVENTS - 1, epoch=epoch)
    assert (done.returncode, done.stdout) == (0, f"New epoch of the event log: {after['epoch']}\n")
    assert after["epoch"] != epoch
    assert (after["recovered"], after["reason"]) == (False, "epoch")


def test_prune_log_keeps_recent_events(start_server: StartServer) -> None:
    # Not the shared server: its older events would be pruned.
    server = start_server(started=False)
    command(server, "emit_test_event", "a.b")
    done = command(server, "prune_log", "--max-events", "1", "--max-age-seconds", "1")
    assert (done.returncode, done.stdout.partition(";")[0]) == (0, "Pruned 0 events")


def test_invalid_numbers_and_missing_tables_give_one_line_errors(start_server: StartServer) -> None:
    server = start_server(started=False)
    server.environment["DATABASE_URL"] = f"sqlite:///{server.var_dir}/empty.sqlite3"
    invalid = command(server, "prune_log", "--max-events", "0")
    assert invalid.returncode == 2
    assert invalid.stderr.endswith("--max-events: '0': expected a whole number from 1 to 10000000000\n")
    for arguments in (
        "prune_log",
        "renew_epoch",
        "emit_test_event a.b",
        "simulate --duration 1",
        "drain_pool p",
        "reopen_pool p",
    ):
        done = command(server, *arguments.split())
        assert done.returncode == 1
        assert re.fullmatch(
            r"CommandError: Cannot use the database: no such table: \w+\. "
            r"Check DATABASE_URL, or run `manage\.py migrate`\.",
            done.stderr.splitlines()[-1],
        )
