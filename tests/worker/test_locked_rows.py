"""Leases and workers whose rows another transaction of Postgres holds, so that no heartbeat is recorded in them."""

from __future__ import annotations

import pytest

from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer


@pytest.fixture(scope="module")
def server(start_module_server: StartServer) -> MahavishnuServer:
    return start_module_server(database="postgres")


EXPIRY = """
from datetime import timedelta
from types import SimpleNamespace
import psycopg
from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import Stage, Worker
from orchestration.plan import Plan, StagePlan
from orchestration.scheduler import Scheduler, due_select

clock = 1000.0
due_select.time = SimpleNamespace(monotonic=lambda: clock)
scheduler = Scheduler()
scheduler._expire_from = 0.0
plan = Plan(name="expiry", adapter="python", stages=(StagePlan(name="one", step=0),))
stage = services.start_run(plan, prompt="", params={}, pool_id="expiry").stages.get()
worker_id = services.join_pool(name="expiry", process="expiry", pool_id="expiry")
services.claim_stage(stage.pk, 1, slot=services.Slot(worker_id=worker_id, process="expiry"))
if table == "orchestration_stage":
    pk, due = stage.pk, Stage.objects.filter(pk=stage.pk).update
    column = "lease_expires_at"
else:
    pk, due = worker_id, Worker.objects.filter(pk=worker_id).update
    column = "heartbeat_at"

def attempts_after_a_pass():
    scheduler.run_once()
    return Stage.objects.get(pk=stage.pk).failed_attempts.count()

due(**{column: database_now() - timedelta(seconds=3600)})
with psycopg.connect(database_url) as other:
    other.execute(f"SELECT 1 FROM {table} WHERE id = %s FOR UPDATE", [pk])
    result = {"locked": attempts_after_a_pass()}
    clock += 100
    result["still locked"] = attempts_after_a_pass()
result["just free"] = attempts_after_a_pass()
if heartbeat:
    services.record_heartbeats(process="expiry", worker_ids=[worker_id], running=[(stage.pk, 1)])
clock += 100
result["free"] = attempts_after_a_pass()
services.leave_pool(worker_id=worker_id, process="expiry", error="The end of the test")
services.cancel_workflow(workflow_id=stage.workflow_id)
"""


@pytest.mark.parametrize("table", ["orchestration_stage", "orchestration_worker"])
@pytest.mark.parametrize(("heartbeat", "lost"), [(True, 0), (False, 1)])
def test_row_that_was_locked_expires_only_after_time_for_a_heartbeat(
    server: MahavishnuServer, table: str, heartbeat: bool, lost: int
) -> None:
    found = server.services_driver.execute(EXPIRY, table=table, heartbeat=heartbeat, database_url=server.database_url)
    assert found == {"locked": 0, "still locked": 0, "just free": 0, "free": lost}
