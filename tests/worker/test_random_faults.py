"""Many runs under random faults: each ends as its kind must, and the books are exact. The seed repeats the faults.

`make chaos ARGS=tests/worker/test_random_faults.py` runs three seeds on both databases.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.harness.engine import Engine
from tests.harness.engine_fixtures import JOBS, LEASE_SECONDS, SHORT_LEASE
from tests.harness.fixtures import StartServer
from tests.harness.processes import has_ended
from tests.harness.waiting import wait_until
from tests.worker.faulty_machines import HEAL_SECONDS, FaultyMachines

SECONDS: Final = float(os.environ.get("FAULT_SECONDS", "60"))
SEEDS: Final = [int(seed) for seed in os.environ.get("FAULT_SEEDS", "1,2,3").split(",")]

POOLS: Final = ("faulty", "faulty-too")

ENVIRONMENT: Final = {
    **JOBS,
    **SHORT_LEASE,
    "MAHAVISHNU_BROKER_TIMEOUT_SECONDS": "1",
    # Faults lose more attempts of one stage than a stage may lose by itself.
    "MAHAVISHNU_MAX_LOST_ATTEMPTS": "1000",
    # The default: stages are both continued inline and queued.
    "MAHAVISHNU_INLINE_CONTINUATION_SECONDS": "1",
}

OUTCOMES: Final = {
    "three_empty_stages": {"completed"},
    "look_around": {"completed"},
    "short_stages": {"completed"},
    "retried": {"completed"},
    "failing": {"failed"},
    "left_transaction": {"failed"},
    "overdue": {"timeout"},
    "overdue_with_children": {"failed"},
    "cancellable": {"cancelled"},
}
"""What each kind of run must end as."""

WEIGHTS: Final = {"overdue_with_children": 1, "left_transaction": 2, "cancellable": 3}

STARTED: Final = """
from orchestration.models import Workflow
from orchestration import services
for workflow_id in cancelled:
    try:
        services.cancel_workflow(workflow_id=workflow_id)
    except services.ServiceError:
        pass
result = list(Workflow.objects.filter(pk__in=runs, finished_at=None).values_list("pk", flat=True))
"""

EVENTS: Final = """
import json
from realtime.models import Event
of_runs = Event.objects.filter(name__startswith="workflow.").order_by("seq")
result = [[name, json.loads(data)] for name, data in of_runs.values_list("name", "data")]
"""

ENDS: Final = {"workflow.completed", "workflow.failed", "workflow.cancelled"}


@pytest.mark.chaos
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_runs_end_as_they_must_under_random_faults(
    start_server: StartServer, tmp_path: Path, database: str, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start_server(database=database, environment=ENVIRONMENT, publish_timeout_seconds=1.0)
    engine = Engine(server)
    chosen = random.Random(seed)
    machines = FaultyMachines(engine, POOLS, chosen, lease_seconds=LEASE_SECONDS)
    kinds = {name: WEIGHTS.get(name, 5) for name in OUTCOMES}
    runs: dict[str, str] = {}
    began = time.monotonic()
    try:
        machines.start()
        while time.monotonic() - began < SECONDS:
            for _ in range(chosen.randint(1, 30)):
                (kind,) = chosen.choices(list(kinds), list(kinds.values()))
                runs[start(engine, kind, chosen.choice(POOLS), tmp_path)] = kind
            machines.cause_fault()
            time.sleep(chosen.uniform(0, 1))
            if chosen.random() < 0.5:
                machines.heal()
        machines.heal()
        cancelled = [run for run, kind in runs.items() if kind == "cancellable"]
        wait_until(
            lambda: engine.execute(STARTED, runs=list(runs), cancelled=cancelled) == [],
            timeout_seconds=HEAL_SECONDS,
            what=lambda: f"the end of {engine.execute(STARTED, runs=list(runs), cancelled=[])}; seed {seed}",
        )
        check_outcomes(engine, runs)
        check_events(engine, runs)
        check_executions(engine, runs, tmp_path)
        wait_until(
            lambda: all(not is_busy(engine, pool_id) for pool_id in POOLS),
            timeout_seconds=HEAL_SECONDS,
            what="free workers",
        )
        for pool_id in POOLS:
            engine.assert_counters_match(pool_id)
        check_logs(server.var_dir)
    finally:
        machines._resume()
        engine.close()
    check_processes(tmp_path)
    with capsys.disabled():
        found = ", ".join(f"{count} {name}" for name, count in sorted(Counter(machines.faults).items()))
        print(f"\n{database}, seed {seed}: {len(runs)} runs, {len(machines.faults)} faults ({found})")


def start(engine: Engine, kind: str, pool_id: str, directory: Path) -> str:
    files = {"journal": str(directory / "journal"), "gate": str(directory / "never")}
    arguments: dict[str, dict[str, Any]] = {
        "short_stages": {**files, "seconds": 0.2},
        "retried": {"succeeds_at": 3},
        "failing": {"prompt": "no message"},
        "left_transaction": {"prompt": "generator"},
        "overdue": files,
        "overdue_with_children": {**files, "journal": str(directory / "pids")},
        "cancellable": files | {"journal": str(directory / "other")},
    }
    return engine.start(kind, pool=pool_id, **arguments.get(kind, {}))


def check_outcomes(engine: Engine, runs: dict[str, str]) -> None:
    code = "from orchestration.models import Workflow\nresult = dict(Workflow.objects.values_list('pk', 'status'))"
    statuses = engine.execute(code)
    assert {run: (kind, statuses[run]) for run, kind in runs.items() if statuses[run] not in OUTCOMES[kind]} == {}


def check_events(engine: Engine, runs: dict[str, str]) -> None:
    """Check that each run has one end, its last event, and that each start of a stage has one end."""
    by_run: dict[str, list[tuple[str, dict[str, Any]]]] = {run: [] for run in runs}
    for name, data in engine.execute(EVENTS):
        by_run[data["workflow_id"]].append((name, data))
    for run, events in by_run.items():
        names = [name for name, _ in events]
        assert names, f"{run} has no events"
        assert [name for name in names if name in ENDS] == names[-1:], (run, names)
        balance: Counter[str] = Counter()
        for name, data in events:
            if name == "workflow.stage_started":
                balance[data["stage_name"]] += 1
            elif name.removeprefix("workflow.stage_") in ("completed", "failed", "retrying", "released"):
                balance[data["stage_name"]] -= 1
        # The end of a run ends its running stages.
        allowed = {0, 1} if runs[run] in ("overdue", "cancellable") else {0}
        assert set(balance.values()) <= allowed, (run, events)


def check_executions(engine: Engine, runs: dict[str, str], directory: Path) -> None:
    """Check that a stage did its work at most once more than attempts of it were lost or released."""
    code = """
from orchestration.models import Stage
stages = Stage.objects.filter(name="short")
result = {f"{each.workflow_id}/{each.name}": each.failed_attempts.count() for each in stages}
"""
    failed: dict[str, int] = engine.execute(code)
    journal = directory / "journal"
    lines = journal.read_text().splitlines() if journal.exists() else []
    executed = Counter(line.split()[0] for line in lines if "/" in line)
    expected = {f"{run}/short" for run, kind in runs.items() if kind == "short_stages"}
    assert set(executed) >= expected
    assert {key: count for key, count in executed.items() if key in expected and count > 1 + failed[key]} == {}


def is_busy(engine: Engine, pool_id: str) -> bool:
    return "busy" in engine.workers(pool_id)


def check_logs(directory: Path) -> None:
    """Check that no part failed in a way that it does not expect."""
    signs = ("tries again later, less", "tries again in each check", "was running with nothing to do")
    logs = list(directory.glob("*.log"))
    assert len(logs) > 1 + len(POOLS), "the server, the scheduler and the workers have logs"
    for log in logs:
        lines = log.read_text(errors="replace").splitlines()
        assert [line for line in lines if any(sign in line for sign in signs)] == [], log


def check_processes(directory: Path) -> None:
    """Check that no process is left that a stage had started, and kill those that cannot be found without the stage."""
    pids = directory / "pids"
    left = []
    for pid in pids.read_text().split() if pids.exists() else []:
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            process = psutil.Process(int(pid))
            if has_ended(process) or process.name() != "sleep":
                continue
            # A process in a separate session whose parent was killed belongs to nothing any longer.
            if os.getsid(process.pid) != process.pid:
                left.append(process)
            process.kill()
    assert left == []
