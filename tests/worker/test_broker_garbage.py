"""Regardless of what the broker delivers or answers, a worker and a scheduler continue, and say so once a minute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from orchestration.worker.message import Flaw
from tests.harness.engine import CeleryWorker, Engine, queue_prefix
from tests.harness.engine_fixtures import FAST_POLLING, JOBS
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until
from tests.worker.broker_messages import GARBAGE, IGNORED

RUN_TIMEOUT_SECONDS = 60

BRIEF_BREAKER = {"MAHAVISHNU_BROKER_TIMEOUT_SECONDS": "1"}
"""After an error, messages are published again this much later; see `orchestration.dispatch.CircuitBreaker`."""


FEW_LINES = {"MAHAVISHNU_LOG_REPEAT_SECONDS": "3600"}


@pytest.fixture(scope="module")
def lone_server(start_module_server: StartServer) -> MahavishnuServer:
    """Return a server that does not run, with a database and a Valkey that these tests may break."""
    return start_module_server(environment={**JOBS, **FAST_POLLING, **BRIEF_BREAKER, **FEW_LINES}, started=False)


@pytest.fixture
def lone_engine(lone_server: MahavishnuServer) -> Iterator[Engine]:
    engine = Engine(lone_server)
    yield engine
    engine.close()


@pytest.fixture
def broker(lone_server: MahavishnuServer) -> Iterator[Any]:
    client = redis.Redis.from_url(lone_server.redis_url)
    yield client
    client.close()


@pytest.fixture(scope="module")
def key_prefix(lone_server: MahavishnuServer) -> str:
    """Return what the keys of the server's queues begin with."""
    return queue_prefix(lone_server)


def run_to_its_end(engine: Engine, worker: CeleryWorker) -> None:
    """Start a workflow in the worker's pool, and wait until it has completed."""
    workflow_id = engine.start("three_empty_stages", pool=worker.pool_id)
    wait_until(
        lambda: engine.workflow(workflow_id)["status"] == "completed" or not worker.is_alive(),
        timeout_seconds=RUN_TIMEOUT_SECONDS,
        what=worker.log_text,
    )
    assert worker.is_alive(), worker.log_text()


def lines_of(worker: CeleryWorker, text: str) -> list[str]:
    return [line for line in worker.log_text().splitlines() if text in line]


def test_worker_drops_everything_but_messages_to_run_a_stage(
    lone_engine: Engine, broker: Any, key_prefix: str, pool: str
) -> None:
    # The worker of another test was killed, perhaps before it removed the record of its last message.
    broker.delete(f"{key_prefix}unacked", f"{key_prefix}unacked_index")
    for item in (*GARBAGE.values(), *IGNORED.values()):
        broker.lpush(f"{key_prefix}{pool}", item)
    # Kombu reads these tables when a worker connects.
    for tag in ("a", "\n", "é"):
        broker.zadd(f"{key_prefix}unacked_index", {tag: 0})
        broker.hset(f"{key_prefix}unacked", tag, b"\xff not JSON")
    broker.sadd(f"{key_prefix}_kombu.binding.{pool}", b"\xff", b"one\x06\x16two", b"")
    # A queue of another priority, which Celery would write to, is read too.
    broker.lpush(f"{key_prefix}{pool}\x06\x163", b"hello")
    worker = lone_engine.worker(pool_id=pool)
    run_to_its_end(lone_engine, worker)
    wait_until(lambda: not broker.exists(f"{key_prefix}unacked"), timeout_seconds=RUN_TIMEOUT_SECONDS)
    assert not broker.exists(f"{key_prefix}{pool}")
    dropped = lines_of(worker, "Dropped a message")
    assert [sum(flaw.value in line for line in dropped) for flaw in Flaw] == [1] * len(Flaw), worker.log_text()
    assert "Traceback" not in worker.log_text()


def test_worker_replaces_keys_of_another_type(lone_engine: Engine, broker: Any, key_prefix: str, pool: str) -> None:
    def break_keys() -> None:
        for key in (
            pool,
            "unacked",
            "unacked_index",
            "unacked_mutex",
            "_kombu.binding.celery",
            f"_kombu.binding.{pool}",
        ):
            broker.delete(f"{key_prefix}{key}")
            broker.set(f"{key_prefix}{key}", "hello")

    break_keys()
    worker = lone_engine.worker(pool_id=pool)
    lone_engine.scheduler()
    run_to_its_end(lone_engine, worker)
    break_keys()
    run_to_its_end(lone_engine, worker)
    assert len(lines_of(worker, "Deleted the key")) == 1, "the interval is not over"
    assert "Traceback" not in worker.log_text()


def test_installations_on_one_redis_take_no_message_of_each_other(
    lone_engine: Engine, start_module_server: StartServer, broker: Any, pool: str
) -> None:
    neighbour = start_module_server(
        environment={**JOBS, **FAST_POLLING}, redis_url=lone_engine.server.redis_url, started=False
    )
    # The databases of tests are copies, and a copy has the same identifier.
    neighbour.services_driver.execute("""
from orchestration.models import Installation
from orchestration.models.installation import new_identifier
Installation.objects.update(identifier=new_identifier())
""")
    engine = Engine(neighbour)
    queued = engine.start("three_empty_stages", pool=pool)
    worker = lone_engine.worker(pool_id=pool)
    # Later than the message of the neighbour, so that the worker would have taken that first.
    run_to_its_end(lone_engine, worker)
    assert broker.llen(f"{queue_prefix(neighbour)}{pool}") == 1
    assert all(stage["attempt"] == 0 for stage in engine.workflow(queued)["stages"].values())
    assert not lines_of(worker, "Dropped a message")


def refuse_writes(broker: Any) -> None:
    broker.execute_command("REPLICAOF", "127.0.0.1", "1")


def accept_writes(broker: Any) -> None:
    broker.execute_command("REPLICAOF", "NO", "ONE")


def fill_memory(broker: Any) -> None:
    broker.config_set("maxmemory", "1")


def free_memory(broker: Any) -> None:
    broker.config_set("maxmemory", "0")


def forbid_reading(broker: Any) -> None:
    broker.execute_command("ACL", "SETUSER", "default", "-brpop", "-lpush", "-llen")


def allow_reading(broker: Any) -> None:
    broker.execute_command("ACL", "SETUSER", "default", "+@all")


def shut_out(broker: Any) -> None:
    broker.execute_command("ACL", "SETUSER", "default", "off")
    broker.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def let_in(broker: Any) -> None:
    broker.execute_command("ACL", "SETUSER", "default", "on")


ANSWERS: dict[str, tuple[Callable[[Any], None], Callable[[Any], None]]] = {
    "READONLY": (refuse_writes, accept_writes),
    "OOM": (fill_memory, free_memory),
    "NOPERM": (forbid_reading, allow_reading),
    "NOAUTH": (shut_out, let_in),
}


def test_worker_and_scheduler_outlive_every_answer_of_the_broker(
    lone_engine: Engine, broker: Any, key_prefix: str, pool: str
) -> None:
    worker, scheduler = lone_engine.worker(pool_id=pool), lone_engine.scheduler()
    for name, (break_broker, repair_broker) in ANSWERS.items():
        break_broker(broker)
        # The publisher is refused too. The stage is stored as queued.
        workflow_id = lone_engine.start("three_empty_stages", pool=pool)
        lines = len(worker.log_text().splitlines())
        if name != "OOM":  # A blocked worker reads on: it writes nothing.
            wait_until(
                lambda lines=lines: len(worker.log_text().splitlines()) > lines or not worker.is_alive(),  # type: ignore[misc]
                timeout_seconds=RUN_TIMEOUT_SECONDS,
                what=f"{name}: {worker.log_text()}",
            )
        repair_broker(broker)
        wait_until(
            lambda workflow_id=workflow_id: (  # type: ignore[misc]
                lone_engine.workflow(workflow_id)["status"] == "completed" or not worker.is_alive()
            ),
            timeout_seconds=RUN_TIMEOUT_SECONDS,
            what=f"{name}: {worker.log_text()}",
        )
        assert worker.is_alive(), f"{name}: {worker.log_text()}"
        assert scheduler.is_alive(), f"{name}: {scheduler.log_text()}"
    assert "Unrecoverable" not in worker.log_text()
