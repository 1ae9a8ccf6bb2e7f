"""The cost of stored history: the same calls with 1, 10 and 100 thousand workflows and a million events in the log.

*Call ms* is the time of one `create_workflow`, `start_workflow`, two `complete_stage` and `complete_workflow`, divided
by five. *p50 ms* and *p99 ms* measure the time from commit to client. *Resume ms* is the time of a subscription with 50
missed events. *History ms* is the time of a `get_pool_history` of a day, with 1440 samples. Each pool has 8,640. The
other columns are the times of one request: `list_workflows` with a status that one in a hundred workflows has, with a
name that one in a thousand has, with a text that none has, and with all counts; `list_events` of `global` with a name
that no event has.
"""

from __future__ import annotations

from benchmarks.commit_to_client import measure, prepare
from benchmarks.contestants import Ours, ours
from benchmarks.report import Report
from benchmarks.subscribers import Subscribers

STEPS = ((0, 0, 1), (1_000, 10_000, 10), (10_000, 100_000, 50), (100_000, 1_000_000, 100))
"""Workflows stored, events in the log, pools with samples of a day."""

_WORKFLOWS_PER_CALL = 10_000
_EVENTS_PER_CALL = 100_000

FILL = """
from datetime import datetime, timedelta, timezone
from django.db import transaction
from orchestration.models import Stage, Workflow
from realtime.models import Event, EventRoom
now = datetime.now(timezone.utc)
for first in range(stored_workflows, workflows, 5000):
    ids = [f"old_{n}" for n in range(first, min(first + 5000, workflows))]
    with transaction.atomic():
        Workflow.objects.bulk_create(
            Workflow(id=id, name="rare" if n % 1000 == 7 else "report", adapter="python", prompt="x",
                     status="failed" if n % 100 == 7 else "completed", total_stages=1, stages_completed=1,
                     result={}, created_at=now + timedelta(milliseconds=n), started_at=now, finished_at=now)
            for n, id in enumerate(ids, first))
        Stage.objects.bulk_create(
            Stage(workflow_id=id, name="a", position=0, status="completed", result={}, started_at=now, finished_at=now)
            for id in ids)
for first in range(stored_events, events, 10000):
    count = min(10000, events - first)
    with transaction.atomic():
        rows = Event.objects.bulk_create(
            Event(name="workflow.started", data='{"workflow_id":"old"}', timestamp=now) for _ in range(count))
        EventRoom.objects.bulk_create(
            EventRoom(room=f"workflow:old_{n % max(workflows, 1)}" if n % 2 else "pool:pool_1", event_id=row.seq)
            for n, row in enumerate(rows, first))
"""
_CALLS = """
import time
from orchestration import services
began = time.perf_counter()
for n in range(runs):
    id = services.create_workflow(adapter="python", prompt="x", stages=["a", "b"], pool_id="pool_1").pk
    services.start_workflow(workflow_id=id)
    services.complete_stage(workflow_id=id, stage_name="a", result={})
    services.complete_stage(workflow_id=id, stage_name="b", result={})
    services.complete_workflow(workflow_id=id, result={})
result = (time.perf_counter() - began) * 1000 / runs / 5
"""
_SAMPLE = """
import time
from datetime import timedelta
from django.db import transaction
from django.utils import timezone
from orchestration import services
from orchestration.models import Pool
yesterday = timezone.now() - timedelta(days=1)
Pool.objects.bulk_create([Pool(id=f"sampled_{n}", created_at=yesterday) for n in range(pools)], ignore_conflicts=True)
now = int(time.time()) // 10 * 10
with transaction.atomic():
    for at in range(now - 3600 * (hour + 1), now - 3600 * hour, 10):
        services.sample_pools(at)
"""
_MISS = """
from orchestration import services
from realtime.eventlog.position import current_position
for n in range(26):  # An even number: the worker is idle before and after.
    services.change_worker_status(worker_id="worker_1", status=("busy", "idle")[n % 2])
    if n == 0:
        result = current_position().seq
"""
_RUNS = 50

_REQUESTS = {
    "history_ms": ("get_pool_history", '{"pool_id":"sampled_0","minutes":1440,"step_seconds":60}'),
    "status_ms": ("list_workflows", '{"status":"failed"}'),
    "name_ms": ("list_workflows", '{"name":"rare"}'),
    "text_ms": ("list_workflows", '{"q":"nowhere"}'),
    "counts_ms": ("list_workflows", '{"limit":1,"counts":true}'),
    "events_ms": ("list_events", '{"channel":"global","names":["nothing"]}'),
}


def run(report: Report, *, rounds: int) -> None:
    """Fill one server step by step, and measure after each step."""
    with ours(MAHAVISHNU_MAX_LOG_EVENTS="10000000") as server:
        prepare(server)
        stored_workflows = stored_events = 0
        for workflows, events, pools in STEPS:
            while (stored_workflows, stored_events) != (workflows, events):
                # Fill in parts: a call to the driver process has a timeout.
                to_workflows = min(stored_workflows + _WORKFLOWS_PER_CALL, workflows)
                to_events = min(stored_events + _EVENTS_PER_CALL, events)
                server.driver.execute(
                    FILL,
                    workflows=to_workflows,
                    events=to_events,
                    stored_workflows=stored_workflows,
                    stored_events=stored_events,
                )
                stored_workflows, stored_events = to_workflows, to_events
            for hour in range(24):
                server.driver.execute(_SAMPLE, pools=pools, hour=hour)
            report.add(
                workflows=workflows,
                events=events,
                pools=pools,
                call_ms=[server.driver.execute(_CALLS, runs=_RUNS) for _ in range(rounds)],
                **{
                    key: [measure(server, calls=100, pause=0.02)["figures"][key] for _ in range(rounds)]
                    for key in ("p50_ms", "p99_ms")
                },
                resume_ms=[_resume_ms(server) for _ in range(rounds)],
                **{
                    key: [_request_ms(server, event, data) for _ in range(rounds)]
                    for key, (event, data) in _REQUESTS.items()
                },
            )


def _resume_ms(server: Ours) -> float:
    since = server.driver.execute(_MISS)
    return _request_ms(server, "subscribe", f'{{"channel":"pool:pool_1","since":{since}}}', replies=1 + 50)


def _request_ms(server: Ours, event: str, data: str, *, replies: int = 1) -> float:
    request = f'{{"type":"request","event":"{event}","data":{data},"id":"1"}}'
    subscribers = Subscribers()
    try:
        found = subscribers.connect(server.port, 1, send=[request], replies=1 + replies)
        return float(found["answered_seconds"]) * 1000
    finally:
        subscribers.close()
