"""The log is replaced: by a new epoch, or by an older backup. Clients notice and resubscribe."""

from __future__ import annotations

import shutil

from tests.broadcast.change_stream import PUBLISH_TIMEOUT_SECONDS, prepare
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.matchers import an_error


async def test_renewed_epoch_closes_clients_which_then_resubscribe(start_server: StartServer) -> None:
    server = start_server(publish_timeout_seconds=PUBLISH_TIMEOUT_SECONDS)
    prepare(server)
    async with connect(server) as client:
        await client.subscribe("worker:w1", since=0)
        *_, last = await client.events(1)
        epoch = client.welcome["data"]["epoch"]
        server.services_driver.execute("from realtime.eventlog.epoch import renew_epoch\nrenew_epoch()")
        assert await client.wait_closed() == (1012, "EVENTS_TRIMMED")
        (error,) = client.waiting()
        assert error == an_error("EVENTS_TRIMMED", error["error_message"], retryable=True)
    async with connect(server) as client:
        response = await client.subscribe("worker:w1", since=last["seq"], epoch=epoch)
        data = response["data"]
        assert data == {
            "channel": "worker:w1",
            "status": "subscribed",
            "seq": data["seq"],
            "epoch": client.welcome["data"]["epoch"],
            "recovered": False,
            "missed": 0,
            "reason": "epoch",
        }
        assert data["epoch"] != epoch
        server.services.change_worker_status(worker_id="w1", status="busy")
        live = await client.event()
        assert live["seq"] > data["seq"]
        again = await client.subscribe("worker:w1", since=data["seq"], epoch=data["epoch"])
        assert (again["data"]["recovered"], again["data"]["missed"]) == (True, 1)


async def test_restored_backup_does_not_resume_old_positions(start_server: StartServer) -> None:
    server = start_server(started=False, publish_timeout_seconds=PUBLISH_TIMEOUT_SECONDS)
    prepare(server)
    database = server.var_dir / "mahavishnu.sqlite3"
    server.services_driver.close()
    shutil.copyfile(database, server.var_dir / "backup.sqlite3")
    server.start()
    async with connect(server) as client:
        await client.subscribe("worker:w1")
        for status in ("busy", "idle", "error"):
            server.services.change_worker_status(worker_id="w1", status=status)
        last = (await client.events(3))[-1]
        epoch = client.welcome["data"]["epoch"]
    server.terminate()
    server.services_driver.close()
    for file in server.var_dir.glob("mahavishnu.sqlite3*"):
        file.unlink()
    shutil.copyfile(server.var_dir / "backup.sqlite3", database)
    assert server.manage("renew_epoch").returncode == 0
    server.start()
    # Different events with the same positions.
    for status in ("busy", "idle", "offline", "idle"):
        server.services.change_worker_status(worker_id="w1", status=status)
    async with connect(server) as client:
        response = await client.subscribe("worker:w1", since=last["seq"], epoch=epoch, snapshot=True)
        assert (response["data"]["recovered"], response["data"]["reason"]) == (False, "epoch")
        assert response["data"]["snapshot"]["status"] == "idle"
        await client.expect_nothing(0.1)
