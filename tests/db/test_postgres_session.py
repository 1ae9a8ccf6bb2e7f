"""Rows that another transaction of Postgres holds: no statement waits for them without a limit, and others proceed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer


@pytest.fixture(scope="module")
def server(start_module_server: StartServer) -> MahavishnuServer:
    return start_module_server(database="postgres")


@contextmanager
def row_locked(server: MahavishnuServer, table: str, id: str) -> Iterator[None]:
    """Hold the lock of a row, as a stage does that has left a transaction open."""
    with psycopg.connect(server.database_url) as connection:
        locked = connection.execute(f"SELECT id FROM {table} WHERE id = %s FOR UPDATE", [id])
        assert locked.fetchall() == [(id,)]
        yield
        connection.rollback()


LIMITS = """
from django.db import connection
from orchestration.db import postgres_session
postgres_session.limit_lock_waits(seconds)
with connection.cursor() as cursor:
    if role_seconds:
        cursor.execute(f"ALTER ROLE CURRENT_USER SET lock_timeout = '{role_seconds}s'")
        connection.close()
with connection.cursor() as cursor:
    cursor.execute("SHOW lock_timeout")
    result = cursor.fetchone()[0]
    cursor.execute("ALTER ROLE CURRENT_USER RESET lock_timeout")
postgres_session.limit_lock_waits(postgres_session.LOCK_TIMEOUT_SECONDS)
"""


@pytest.mark.parametrize(("seconds", "role_seconds", "shown"), [(20, 0, "20s"), (1, 0, "1s"), (20, 7, "7s")])
def test_connections_limit_waits_for_locks_unless_the_role_does(
    server: MahavishnuServer, seconds: float, role_seconds: int, shown: str
) -> None:
    assert server.services_driver.execute(LIMITS, seconds=seconds, role_seconds=role_seconds) == shown


SHOW = """
from django.core.management import call_command
from django.db import connections
from django.db.models.signals import post_migrate, pre_migrate
from orchestration.db import postgres_session

connections.settings["second"] = {**connections.settings["default"]}
NAMES = "lock_timeout", "idle_in_transaction_session_timeout", "default_transaction_isolation"

def limits(alias="default"):
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in NAMES))
        return cursor.fetchone()

def reopened():
    connections["default"].close()
    return limits()

def migrates(**_):
    result.setdefault("migrate", [limits(), reopened()])

result = {"second": limits("second"), "default": reopened()}
pre_migrate.connect(migrates)
call_command("migrate", verbosity=0)
pre_migrate.disconnect(migrates)
result["migrated"] = limits()
postgres_session.limit_idle_transactions(2)
result["own limit"] = limits()
# What the process allows its other connections, such as those of stages, leaves this one its limit.
postgres_session.allow_idle_transactions()
result["kept limit"] = reopened()
del connections["default"]
result["allowed"] = limits()
connections.close_all()
"""


def test_limits_apply_to_the_database_of_the_engine_except_while_it_is_migrated(server: MahavishnuServer) -> None:
    committed, none = "read committed", ["0", "0", "read committed"]
    assert server.driver().execute(SHOW) == {
        "second": none,
        "default": ["20s", "1min", committed],
        "migrate": [none, none],
        "migrated": ["20s", "1min", committed],
        "own limit": ["20s", "2s", committed],
        "kept limit": ["20s", "2s", committed],
        "allowed": ["20s", "0", committed],
    }


FROZEN = """
import psycopg
from django.db import DatabaseError, connection, transaction
from django.test import override_settings
from orchestration.db import postgres_session
from orchestration.db.clock import database_now
from orchestration.db.retry import is_contended, is_unavailable
from orchestration.limits import EngineLimits
from orchestration.models import Pool
from orchestration.scheduler import Scheduler
from orchestration.worker.slot_table import SlotTable
from orchestration.worker.supervisor.supervisor import WorkerSupervisor
from tests.harness.waiting import wait_until

def freeze():
    with psycopg.connect(database_url, autocommit=True) as admin:
        session = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
        wait_until(lambda: not admin.execute(session, [pid]).fetchall(), timeout_seconds=10, what="the limit")

with override_settings(MAHAVISHNU_ENGINE=EngineLimits(lease_seconds=0.2)):
    if process == "scheduler":
        Scheduler()
    else:
        WorkerSupervisor(SlotTable(), parent_pid=1, process="frozen", name="frozen", pool_id="frozen")
try:
    with transaction.atomic():
        assert list(Pool.objects.select_for_update().filter(pk=process).values_list("pk", flat=True)) == [process]
        pid = connection.connection.info.backend_pid
        freeze()
        database_now()
except DatabaseError as error:
    result = [str(error).splitlines()[0], is_unavailable(error), is_contended(error)]
database_now()
connection.close()
"""


@pytest.mark.parametrize("process", ["scheduler", "supervisor"])
def test_frozen_process_loses_its_locks_after_a_lease(server: MahavishnuServer, process: str) -> None:
    server.services.create_pool(pool_id=process)
    found = server.driver().execute(FROZEN, process=process, database_url=server.database_url)
    assert found == ["terminating connection due to idle-in-transaction timeout", True, False]


START = """
from django.db import OperationalError, connection
from orchestration import services
from orchestration.db import postgres_session
from orchestration.db.retry import is_contended, is_unavailable
from orchestration.plan import Plan, StagePlan
postgres_session.limit_lock_waits(0.2)
plan = Plan(name="locked", adapter="python", stages=(StagePlan(name="one", step=0),))
try:
    services.start_run(plan, prompt="", params={}, pool_id="locked")
except OperationalError as error:
    result = [is_contended(error), is_unavailable(error), str(error).splitlines()[0]]
finally:
    postgres_session.limit_lock_waits(postgres_session.LOCK_TIMEOUT_SECONDS)
"""


def test_start_in_a_locked_pool_fails_after_the_limit(server: MahavishnuServer) -> None:
    server.services.create_pool(pool_id="locked")
    with row_locked(server, "orchestration_pool", "locked"):
        found = server.services_driver.execute(START)
    assert found == [True, True, "canceling statement due to lock timeout"]


PASS = """
from datetime import timedelta
from django.db import connection
from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import Stage
from orchestration.plan import Plan, StagePlan
from orchestration.scheduler import Scheduler
for pool_id in ("held", "free"):
    if phase == "prepare":
        plan = Plan(name="due", adapter="python", stages=(StagePlan(name="one", step=0),))
        services.start_run(plan, prompt="", params={}, pool_id=pool_id, workflow_id=f"wf_{pool_id}")
        due = {"status": "pending", "dispatch_due_at": None, "retry_at": database_now() - timedelta(seconds=1)}
        Stage.objects.filter(workflow_id=f"wf_{pool_id}").update(**due)
        services.create_pool(pool_id=f"{pool_id}_metrics")
if phase == "run":
    connection.close()
    Scheduler().run_once()
    connection.close()
    result = dict(Stage.objects.filter(workflow_id__in=["wf_held", "wf_free"]).values_list("workflow_id", "status"))
"""


def test_locked_pool_delays_no_other_pool_in_the_scheduler(server: MahavishnuServer) -> None:
    server.services_driver.execute(PASS, phase="prepare")
    with row_locked(server, "orchestration_pool", "held"):
        assert server.services_driver.execute(PASS, phase="run") == {"wf_held": "pending", "wf_free": "queued"}


HEARTBEATS = """
from datetime import timedelta
from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import Worker
if phase == "join":
    result = [services.join_pool(name="beats", process="beats", pool_id="beats") for _ in range(2)]
else:
    before = database_now()
    known = services.record_heartbeats(process="beats", worker_ids=["beats-1", "beats-2"], running=[])
    beaten = Worker.objects.filter(process="beats", heartbeat_at__gte=before)
    result = [sorted(known), list(beaten.values_list("pk", flat=True))]
"""


def test_locked_worker_delays_no_heartbeat_of_the_others(server: MahavishnuServer) -> None:
    server.services_driver.execute(HEARTBEATS, phase="join")
    with row_locked(server, "orchestration_worker", "beats-1"):
        assert server.services_driver.execute(HEARTBEATS, phase="record") == [["beats-1", "beats-2"], ["beats-2"]]


STRICT: dict[str, str] = {"default_transaction_isolation": "serializable", "statement_timeout": "7s"}

CONCURRENT = """
from concurrent.futures import ThreadPoolExecutor
from django.db import connection
from orchestration import services
connection.close()
def join(number):
    try:
        return services.join_pool(name=f"strict-{number}", process=f"strict-{number}", pool_id="strict")
    finally:
        connection.close()
with ThreadPoolExecutor(4) as threads:
    joined = list(threads.map(join, range(40)))
with connection.cursor() as cursor:
    cursor.execute("SELECT current_setting('default_transaction_isolation'), current_setting('statement_timeout')")
    result = [len(joined), *cursor.fetchone()]
connection.close()
"""


def test_services_work_with_every_isolation_of_the_role(server: MahavishnuServer) -> None:
    server.services.create_pool(pool_id="strict")
    with psycopg.connect(server.database_url, autocommit=True) as admin:
        for name, value in STRICT.items():
            admin.execute(f"ALTER ROLE CURRENT_USER SET {name} = '{value}'".encode())
        try:
            found = server.services_driver.execute(CONCURRENT)
        finally:
            for name in STRICT:
                admin.execute(f"ALTER ROLE CURRENT_USER RESET {name}".encode())
    assert found == [40, "read committed", "7s"]
