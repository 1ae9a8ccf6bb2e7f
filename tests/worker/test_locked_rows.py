"""What the scheduler does with rows that another transaction of Postgres holds."""

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
scheduler._clock._expire_from = 0.0
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


HOLDS = """
import logging
from datetime import timedelta
import psycopg
from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import Stage, Workflow
from orchestration.plan import Plan, StagePlan
from orchestration.scheduler import Scheduler

logged = []
handler = logging.Handler(logging.WARNING)
handler.emit = lambda record: logged.append(record.getMessage())
logging.getLogger("orchestration.scheduler").addHandler(handler)

plan = Plan(name="unclaimed", adapter="python", stages=(StagePlan(name="one", step=0),))
ids = ["wf_locked", "wf_free"]
for id in ids:
    services.start_run(plan, prompt="", params={}, pool_id=f"pool_of_{id}", workflow_id=id)
scheduler = Scheduler()

def held_after_a_pass():
    Stage.objects.filter(workflow_id__in=ids).update(dispatch_due_at=database_now() - timedelta(seconds=1))
    scheduler.run_once()
    return sorted(Workflow.objects.filter(pk__in=ids).exclude(held_reason="").values_list("pk", flat=True))

with psycopg.connect(database_url) as other:
    other.execute("SELECT 1 FROM orchestration_workflow WHERE id = 'wf_locked' FOR UPDATE")
    result = [held_after_a_pass()]
result += [held_after_a_pass(), logged]
"""


def test_locked_run_is_held_later_and_delays_no_other(server: MahavishnuServer) -> None:
    assert server.driver().execute(HOLDS, database_url=server.database_url) == [
        ["wf_free"],
        ["wf_free", "wf_locked"],
        [f"Pool pool_of_{id} has no worker; 1 of its workflows wait for one" for id in ("wf_free", "wf_locked")],
    ]
