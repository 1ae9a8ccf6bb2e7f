"""The epoch of the log on SQLite: kept if no event can be lost, replaced if a power cut may have lost some."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from mahavishnu_site import databases
from realtime.eventlog import epoch_file
from tests.harness.client import connect
from tests.harness.engine import Engine
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.services import Driver, ServiceCallError
from tests.harness.waiting import wait_until

RENEWED = "gave it a new epoch"

_EPOCH = "from realtime.eventlog.position import current_position\nresult = current_position().epoch"
_ENSURE = "from realtime.eventlog.epoch import ensure_epoch\nensure_epoch()"
_RECORD_CLEAN_STOP = "from realtime.eventlog.epoch import record_clean_stop\nrecord_clean_stop()"


def database_of(server: MahavishnuServer) -> Path:
    return server.var_dir / "mahavishnu.sqlite3"


def epoch_line(server: MahavishnuServer) -> list[str]:
    """Return the epoch in the file beside the database, and in which boot it is continued."""
    return epoch_file.epoch_file_path(database_of(server)).read_text().split()


def pretend_reboot(server: MahavishnuServer) -> None:
    """Let the file name another boot, as after a restart of the machine. If it names none, it stays."""
    path = epoch_file.epoch_file_path(database_of(server))
    assert path.exists(), "no process has noted in which boot it appends events"
    path.write_text(path.read_text().replace(boot(), "00000000-0000-4000-8000-000000000000"))


def put_back(server: MahavishnuServer, earlier: Path) -> None:
    """Leave the disk as a power cut does: without the commits that were not synced."""
    os.replace(earlier, database_of(server))
    for suffix in ("-wal", "-shm"):
        Path(f"{database_of(server)}{suffix}").unlink(missing_ok=True)


def boot() -> str:
    boot_id = epoch_file.boot_id()
    assert boot_id is not None, "these tests need a system with an id of the boot"
    return boot_id


def create_pools(driver: Driver, *numbers: int) -> None:
    for number in numbers:
        driver.services.create_pool(pool_id=f"pool_{number}")


@pytest.fixture
def server(start_server: StartServer) -> MahavishnuServer:
    """Provide a stopped server whose log has three events of this boot."""
    server = start_server(started=False)
    create_pools(server.services_driver, 1, 2, 3)
    return server


async def test_client_of_a_log_that_lost_events_in_a_power_cut_starts_over(server: MahavishnuServer) -> None:
    server.start()
    async with connect(server) as client:
        await client.subscribe("global")
        with sqlite3.connect(database_of(server)) as live, sqlite3.connect(server.var_dir / "earlier") as earlier:
            live.backup(earlier)
        create_pools(server.services_driver, 4, 5, 6, 7)
        seen = (await client.events(4))[-1]["seq"]
        epoch = client.welcome["data"]["epoch"]
    server.kill()
    server.services_driver.kill()
    put_back(server, server.var_dir / "earlier")
    pretend_reboot(server)

    # A worker or a command may append before the first server runs.
    create_pools(server.services_driver, 14, 15, 16, 17, 18)
    server.start()
    async with connect(server) as client:
        answer = (await client.subscribe("global", since=seen, epoch=epoch))["data"]
        assert answer["seq"] > seen, "the numbers of the lost events are given again"
        assert (answer["recovered"], answer.get("reason")) == (False, "epoch")
    assert RENEWED in server.services_driver.log_text()
    assert RENEWED not in server.log_text()


def test_log_that_lost_its_first_events_in_a_power_cut_gets_a_new_epoch(start_server: StartServer) -> None:
    """Such a log looks as empty as a new one."""
    server = start_server(started=False)
    driver = server.services_driver
    driver.execute(_ENSURE)
    before = driver.execute(_EPOCH)
    with sqlite3.connect(database_of(server)) as live, sqlite3.connect(server.var_dir / "earlier") as earlier:
        live.backup(earlier)
    create_pools(driver, 1, 2, 3)
    driver.kill()
    put_back(server, server.var_dir / "earlier")
    pretend_reboot(server)

    later = server.driver()
    later.execute(_ENSURE)
    assert later.execute(_EPOCH) != before
    assert RENEWED in later.log_text()


def test_new_log_keeps_its_epoch(start_server: StartServer) -> None:
    driver = start_server(started=False).services_driver
    before = driver.execute(_EPOCH)
    driver.execute(_ENSURE)
    create_pools(driver, 1)
    assert driver.execute(_EPOCH) == before


def test_processes_that_start_together_after_a_power_cut_renew_the_epoch_once(server: MahavishnuServer) -> None:
    before = server.services_driver.execute(_EPOCH)
    pretend_reboot(server)
    drivers = [server.driver() for _ in range(3)]
    barrier = threading.Barrier(len(drivers))
    work = (_ENSURE, _ENSURE, "from orchestration import services\nservices.create_pool(pool_id='pool_9')")

    def run(driver: Driver, code: str) -> None:
        driver.execute(_EPOCH)  # Connects before the race.
        barrier.wait()
        driver.execute(code)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(drivers, work, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (after,) = {driver.execute(_EPOCH) for driver in drivers}
    assert after != before
    assert sum(driver.log_text().count(RENEWED) for driver in drivers) == 1
    assert epoch_line(server) == [after, boot()]


def test_epoch_survives_a_kill_in_the_same_boot(server: MahavishnuServer) -> None:
    server.start()
    epoch = server.services_driver.execute(_EPOCH)
    server.kill()
    server.services_driver.kill()
    assert epoch_line(server) == [epoch, boot()]
    server.start()
    assert server.services_driver.execute(_EPOCH) == epoch
    assert RENEWED not in server.log_text()


def test_epoch_survives_a_reboot_after_a_clean_stop(server: MahavishnuServer) -> None:
    epoch = server.services_driver.execute(_EPOCH)
    server.start()
    server.terminate()
    assert epoch_line(server) == [epoch, "clean"]
    pretend_reboot(server)
    server.start()
    assert server.services_driver.execute(_EPOCH) == epoch
    assert epoch_line(server) == [epoch, boot()]
    assert RENEWED not in server.log_text()


def test_append_after_a_clean_stop_of_another_process_is_noted(server: MahavishnuServer) -> None:
    """Otherwise a power cut after it would go unnoticed."""
    server.driver().execute(_RECORD_CLEAN_STOP)
    epoch, state = epoch_line(server)
    assert state == "clean"
    create_pools(server.services_driver, 4)
    assert epoch_line(server) == [epoch, boot()]


def test_scheduler_and_worker_record_a_clean_stop(server: MahavishnuServer) -> None:
    engine = Engine(server)
    try:
        scheduler = engine.scheduler()
        scheduler.terminate()
        assert epoch_line(server)[1] == "clean"
        worker = engine.worker(pool_id="pool_1")  # Its supervisor adds a worker to the pool.
        assert epoch_line(server)[1] == boot()
        worker.terminate()
        # Its supervisor ends last, and takes the worker offline before.
        wait_until(lambda: epoch_line(server)[1] == "clean", timeout_seconds=60, what="the end of the supervisor")
    finally:
        engine.close()


async def test_server_stops_in_time_while_another_program_holds_the_write_lock(server: MahavishnuServer) -> None:
    server.start()
    async with connect(server) as client:
        await client.subscribe("global")
    with closing(sqlite3.connect(database_of(server), isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        assert await asyncio.to_thread(server.terminate) == 0
    assert "Cannot sync the event log" in server.log_text()
    assert epoch_line(server)[1] == boot()


def test_nothing_is_committed_while_the_epoch_cannot_be_recorded(server: MahavishnuServer) -> None:
    server.driver().execute(_RECORD_CLEAN_STOP)
    obstacle = server.var_dir / "mahavishnu.sqlite3-epoch.new"
    obstacle.mkdir()
    with pytest.raises(ServiceCallError, match=r"OperationalError: Cannot write .*-epoch"):
        create_pools(server.services_driver, 4)
    obstacle.rmdir()
    create_pools(server.services_driver, 4)
    assert epoch_line(server)[1] == boot()


def test_log_without_its_file_gets_a_new_epoch(server: MahavishnuServer) -> None:
    """The database was restored from a backup, or copied without the file."""
    epoch = server.services_driver.execute(_EPOCH)
    epoch_file.epoch_file_path(database_of(server)).unlink()
    server.services_driver.execute(_ENSURE)
    assert server.services_driver.execute(_EPOCH) != epoch


def test_renewed_epoch_is_not_renewed_again(server: MahavishnuServer) -> None:
    epoch = server.services_driver.execute("from realtime.eventlog.epoch import renew_epoch\nresult = renew_epoch()")
    create_pools(server.services_driver, 4)
    assert server.services_driver.execute(_EPOCH) == epoch
    assert epoch_line(server) == [epoch, boot()]


def test_epoch_file_has_the_permissions_of_the_database(server: MahavishnuServer) -> None:
    database_of(server).chmod(0o640)
    server.services_driver.execute(_RECORD_CLEAN_STOP)
    assert epoch_file.epoch_file_path(database_of(server)).stat().st_mode & 0o777 == 0o640


def test_sqlite_syncs_each_commit_on_a_system_without_an_id_of_the_boot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = databases.sqlite_database(tmp_path / "a", test_path=tmp_path / "b")["OPTIONS"]
    assert "synchronous=NORMAL" in options["init_command"]
    monkeypatch.setattr(databases, "boot_id", lambda: None)
    options = databases.sqlite_database(tmp_path / "a", test_path=tmp_path / "b")["OPTIONS"]
    assert "synchronous=FULL" in options["init_command"]


def test_server_warns_if_postgres_does_not_sync_commits(start_server: StartServer) -> None:
    server = start_server(database="postgres", started=False)
    name = server.database_url.split("?", 1)[0].rsplit("/", 1)[1]
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(name)))
    server.start()
    assert "synchronous_commit is off in Postgres; after a crash, clients may miss events" in server.log_text()
