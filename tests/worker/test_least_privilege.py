"""Workers and schedulers have neither the key of the web processes nor their tables."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.apps import apps

from tests.docs.markdown import blocks, page, table
from tests.harness.engine import Engine
from tests.harness.engine_fixtures import FAST_POLLING, JOBS
from tests.harness.fixtures import StartServer
from tests.harness.interpreter import run_python
from tests.harness.programs import run_to_end
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

RUN_TIMEOUT_SECONDS = 60

ROLE = "mahavishnu_worker"

ACCOUNT_TABLES = ("auth_user", "auth_group", "auth_permission", "django_session", "django_admin_log")

USE_KEY = """
import os
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
try:
    print(settings.SECRET_KEY, "SECRET_KEY" in os.environ)
except ImproperlyConfigured as error:
    print(error, "SECRET_KEY" in os.environ)
"""


RUN_COMMANDS = """
import json, os, signal, sys, threading, time
import django
django.setup()
from tests.harness.commands import run
def end_when_handled(default):
    while signal.getsignal(signal.SIGTERM) is default:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
arguments = (signal.getsignal(signal.SIGTERM),)
threading.Thread(target=end_when_handled, args=arguments, daemon=True).start()
results = {}
for name, arguments in json.loads(sys.argv[1]).items():
    try:
        done = run([name, *arguments], None)
        results[name] = done["stderr"] or str(done) if done["code"] else ""
    except Exception as error:
        results[name] = repr(error)
print(json.dumps(results))
"""
"""Run commands in one process, and print the error of each, or an empty text. One that handles SIGTERM receives it."""

REFUSED = "The SECRET_KEY setting must not be empty. False\n"


def use_key(var_dir: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Use the secret key in a process with these variables."""
    return run_python(var_dir, "-c", USE_KEY, **variables)


@pytest.mark.parametrize("role", ["worker", "scheduler", "command"])
def test_roles_without_pages_neither_read_nor_create_the_secret_key(tmp_path: Path, role: str) -> None:
    done = use_key(tmp_path, MAHAVISHNU_ROLE=role, SECRET_KEY="a key of the environment")
    assert (done.stdout, done.stderr) == (REFUSED, "")
    assert not (tmp_path / "secret_key").exists()
    # Not even a broken file is noticed.
    (tmp_path / "secret_key").mkdir()
    assert use_key(tmp_path, MAHAVISHNU_ROLE=role).stdout == REFUSED


def test_unknown_role_is_refused(tmp_path: Path) -> None:
    done = use_key(tmp_path, MAHAVISHNU_ROLE="workers")
    assert done.stdout.startswith("MAHAVISHNU_ROLE='workers': expected one of web, worker, scheduler, command")


def test_grants_name_every_table_of_the_engine() -> None:
    (grants,) = blocks(page("docs/operations.md"), language="sql", role="grants")
    models = apps.get_app_config("orchestration").get_models()
    assert set(re.findall(r"\borchestration_\w+", grants.text)) == {model._meta.db_table for model in models}


@pytest.fixture(scope="module")
def postgres_engine_server(start_module_server: StartServer) -> MahavishnuServer:
    """Return a server that does not run, on Postgres, with the documented role."""
    server = start_module_server(database="postgres", environment={**JOBS, **FAST_POLLING}, started=False)
    (grants,) = blocks(page("docs/operations.md"), language="sql", role="grants")
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        connection.execute(grants.text.encode())
    return server


@pytest.fixture
def worker_variables(postgres_engine_server: MahavishnuServer, tmp_path: Path) -> dict[str, str]:
    """Return the variables of a worker with the role of Postgres and another var folder."""
    scheme, _, rest = postgres_engine_server.database_url.partition("://")
    _, _, place = rest.rpartition("@")
    return {
        "MAHAVISHNU_ROLE": "worker",
        "MAHAVISHNU_VAR_DIR": str(tmp_path),
        "DATABASE_URL": f"{scheme}://{ROLE}:PASSWORD@{place}",
        "SECRET_KEY": "a key that a worker needs not know, but was given",
    }


@pytest.fixture
def postgres_engine(postgres_engine_server: MahavishnuServer) -> Iterator[Engine]:
    engine = Engine(postgres_engine_server)
    yield engine
    engine.close()


@pytest.fixture
def required_password(postgres_engine_server: MahavishnuServer) -> Iterator[str]:
    """Make Postgres require the password of the role, and return it. The Postgres of the tests trusts this machine."""
    with psycopg.connect(postgres_engine_server.database_url, autocommit=True) as connection:
        (path, database) = connection.execute(
            "SELECT setting, current_database() FROM pg_settings WHERE name = 'hba_file'"
        ).fetchone() or ("", "")
        trusting = Path(path).read_text(encoding="utf-8")
        # The first line that matches counts; the file must keep its owner.
        Path(path).write_text(f"local {database} {ROLE} scram-sha-256\n{trusting}", encoding="utf-8")
        connection.execute("SELECT pg_reload_conf()")
        try:
            yield "PASSWORD"
        finally:
            Path(path).write_text(trusting, encoding="utf-8")
            connection.execute("SELECT pg_reload_conf()")


def test_documented_grants_are_enough_for_workers_and_schedulers(
    postgres_engine: Engine, worker_variables: dict[str, str], pool: str, tmp_path: Path
) -> None:
    worker = postgres_engine.worker(pool_id=pool, concurrency=1, **worker_variables)
    scheduler = postgres_engine.scheduler(**{**worker_variables, "MAHAVISHNU_ROLE": "scheduler"})
    workflows = {
        postgres_engine.start("retried", pool=pool, succeeds_at=3): "completed",
        postgres_engine.start("failing", pool=pool, prompt="exits"): "failed",
    }
    reported = postgres_engine.start("reported_environment", pool=pool)
    for workflow_id, status in {**workflows, reported: "completed"}.items():
        wait_until(
            lambda workflow_id=workflow_id, status=status: (  # type: ignore[misc]
                postgres_engine.workflow(workflow_id)["status"] == status
            ),
            timeout_seconds=RUN_TIMEOUT_SECONDS,
            what=lambda workflow_id=workflow_id: f"{postgres_engine.workflow(workflow_id)} {worker.log_text()}",  # type: ignore[misc]
        )
    postgres_engine.assert_counters_match(pool)
    # The worker leaves its pool, and so writes that it is offline.
    assert worker.terminate() == 0
    wait_until(lambda: postgres_engine.workers(pool) == ["offline"], timeout_seconds=RUN_TIMEOUT_SECONDS)
    assert scheduler.terminate() == 0
    for program in (worker, scheduler):
        assert "permission denied" not in program.log_text(), program.log_text()
        assert "Traceback" not in program.log_text(), program.log_text()
    assert not (tmp_path / "secret_key").exists()

    report = postgres_engine.workflow(reported)["result"]["final_output"]
    for variable in ("SECRET_KEY", "DATABASE_URL", "REDIS_URL"):
        assert variable not in report["own"]
        assert variable not in report["inherited"]
    assert report["dumpable"] == 0, "other processes of the user can read its variables and its memory"


def test_stages_connect_with_the_password_of_the_worker(
    postgres_engine: Engine, worker_variables: dict[str, str], required_password: str, pool: str
) -> None:
    url = worker_variables["DATABASE_URL"]
    variables = {**worker_variables, "DATABASE_URL": url.replace(":PASSWORD@", "@"), "PGPASSWORD": required_password}
    worker = postgres_engine.worker(pool_id=pool, concurrency=1, **variables)
    reported = postgres_engine.start("reported_environment", pool=pool)
    wait_until(
        lambda: postgres_engine.workflow(reported)["status"] == "completed",
        timeout_seconds=RUN_TIMEOUT_SECONDS,
        what=worker.log_text,
    )
    report = postgres_engine.workflow(reported)["result"]["final_output"]
    assert "PGPASSWORD" not in report["own"]
    assert "PGPASSWORD" not in report["inherited"]
    assert worker.terminate() == 0


def test_documented_role_reads_no_account(worker_variables: dict[str, str]) -> None:
    with psycopg.connect(worker_variables["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("SELECT epoch FROM realtime_log")
        for statement in (
            *(f"SELECT 1 FROM {table}" for table in ACCOUNT_TABLES),
            "DELETE FROM realtime_event",
            "UPDATE realtime_log SET trimmed_seq = 0",
            "CREATE TABLE forged (id int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_documented_role_is_enough_for_the_documented_commands(
    postgres_engine: Engine, worker_variables: dict[str, str], pool: str
) -> None:
    join = "from orchestration import services\nresult = services.join_pool(name=pool, process=pool, pool_id=pool)"
    drained = postgres_engine.execute(join, pool=pool)
    documented = {
        name: row["Database"]
        for row in table(page("docs/operations.md"), first="Part")
        if "Database" in row and row["Part"].startswith("manage.py")
        for name in row["Part"].removeprefix("manage.py ").split(", ")
    }
    asks = postgres_engine.start("deployment", pool=pool)
    commands = {
        "run_workflow": ("demo_retry", "--pool", pool),
        "answer_workflow": (asks, "approve", "--json", '{"approved": true}'),
        "cancel_workflow": (asks,),
        "retry_workflow": (asks,),
        "observe_celery": ("--broker", "memory://"),
        "drain_pool": (pool,),
        "reopen_pool": (pool,),
        "create_pool": (f"{pool}-created",),
        "remove_pool": (f"{pool}-created",),
        "prune_runs": ("--older-than", "1d"),
        "prune_workers": ("--older-than", "1d"),
        "drain_worker": (drained,),
        "emit_test_event": ("workflow.started", "--id", "wf_1"),
        "prune_log": ("--max-events", "1"),
        "renew_epoch": (),
        "axes_list_attempts": (),
        "axes_reset_username": ("reader",),
        "migrate": (),
    }
    assert documented.keys() == {*commands, "createsuperuser"}
    environment = {
        **postgres_engine.server.environment,
        **worker_variables,
        "MAHAVISHNU_ROLE": "command",
        # So that there are events to prune.
        "MAHAVISHNU_MIN_LOG_AGE_SECONDS": "0",
    }
    done = run_to_end("-c", RUN_COMMANDS, json.dumps(commands), environment=environment)
    results = json.loads(done.stdout)
    succeeds = {name: documented[name] == ROLE for name in commands}
    assert {name: result == "" for name, result in results.items()} == succeeds, results
