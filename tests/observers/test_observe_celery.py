"""`manage.py observe_celery` beside a real Celery application with a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Connection, Exchange, Producer

from orchestration.processes import process_tree
from tests.harness.client import Client, Message, connect
from tests.harness.processes import kill_at_once
from tests.harness.programs import PROJECT_DIR, Program
from tests.harness.server import MahavishnuServer
from tests.harness.valkey import Valkey
from tests.harness.waiting import wait_until

TIMEOUT_SECONDS = 60

SHOWN_CHARACTERS = 3000


class Shop:
    """The observed application: a broker, workers, and a client of them."""

    def __init__(self, valkey: Valkey, folder: Path) -> None:
        self.valkey = valkey
        self.folder = folder
        self.url = f"redis+socket://{valkey.socket_path}"
        self.environment = {**os.environ, "SHOP_BROKER": self.url, "SHOP_BACKEND": self.url}
        self.app = Celery("client", broker=self.url, set_as_current=False)
        self.app.conf.update(task_default_queue="orders", task_routes={"shop.notify": {"queue": "mail"}})
        self._programs: list[Program] = []

    def task(self, name: str, *arguments: Any, **options: Any) -> Any:
        return self.app.signature(f"shop.{name}", args=arguments, kwargs=options)

    def run_client(self) -> dict[str, Any]:
        """Run the client of the application; return the ids and results that it prints."""
        command = (sys.executable, "-m", "tests.observers.shop_client")
        output = subprocess.run(
            command, env=self.environment, cwd=PROJECT_DIR, stdout=subprocess.PIPE, timeout=TIMEOUT_SECONDS, check=True
        ).stdout
        printed: dict[str, Any] = json.loads(output)
        return printed

    def worker(self, name: str, queue: str) -> Program:
        options = ("--queues", queue, "--hostname", f"{name}@box", "--concurrency", "1", "--loglevel", "INFO")
        return self._start("celery", "--app", "tests.observers.application", "worker", *options, name=name)

    def observer(self, server: MahavishnuServer, prefix: str, *options: str, name: str = "observer") -> Program:
        command = ("observe_celery", "--broker", self.valkey.url, "--prefix", prefix, *options)
        self.environment |= server.environment
        program = self._start("mahavishnu_site", *command, name=name)
        wait_until(lambda: "Observing Celery" in self.log(name), timeout_seconds=TIMEOUT_SECONDS, what="the observer")
        return program

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def _start(self, *command: str, name: str) -> Program:
        program = Program("-m", *command, environment=self.environment, log_path=self.folder / f"{name}.log")
        self._programs.append(program)
        return program

    def close(self) -> None:
        self.app.close()
        for program in self._programs:
            kill_at_once(process_tree(program.pid))
            program.wait(timeout=TIMEOUT_SECONDS)


@pytest.fixture
def shop(start_valkey: Any, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(start_valkey(), tmp_path)
    yield shop
    shop.close()
    for path in sorted(tmp_path.glob("*.log")):
        # Shown if the test has failed.
        print(f"--- {path.name}", shop.log(path.stem)[-SHOWN_CHARACTERS:], sep="\n")


def id_of(message: Message) -> str:
    data = message["data"]
    return str(data.get("workflow_id") or data.get("worker_id") or data.get("pool_id"))


async def events_until(client: Client, prefix: str, *wanted: dict[str, str]) -> list[Message]:
    """Return the events of one prefix, up to that with which each of the wanted names and values has been received."""
    received: list[Message] = []
    missing = list(wanted)
    while missing:
        message = await client.event(within_seconds=TIMEOUT_SECONDS)
        if id_of(message).startswith(f"{prefix}-"):
            received.append(message)
            fields = {"event": message["event"], **message["data"]}
            missing = [values for values in missing if not values.items() <= fields.items()]
    return received


def hostile_payloads() -> Iterator[tuple[bytes | str, str]]:
    """Return the bodies of messages, and the type that they claim to have."""
    now = time.time()
    evil = {"hostname": "evil\x1b]0;x\x07", "root_id": "a:b/../c", "name": "n\x00\n2026 ERROR root: forged"}
    task = {"type": "task-received", "hostname": "h@h", "uuid": "big"}
    values: tuple[Any, ...] = (
        *(1, None, "text", [], {}, [[]], {"type": 1}, {"type": "task-received"}, {"type": "other", "hostname": "h"}),
        {**task, "uuid": 5},
        {**task, **evil, "uuid": "../../etc", "timestamp": 1e300, "retries": -1},
        {**task, "name": "N" * 1_000_000, "timestamp": now + 1e6},
        {**task, "type": "task-started", "timestamp": -5},
        {**task, "type": "task-failed", "exception": "\ud800\u202e\x00"},
        {"type": "worker-heartbeat", "hostname": "h\x00", "freq": float("inf"), "pid": "x"},
        [task] * 2000,
    )
    for value in values:
        yield json.dumps(value), "application/json"
    yield "[" * 100_000, "application/json"
    yield b"\xff\xfe", "application/json"
    yield pickle.dumps(signal.SIGTERM), "application/x-python-serialize"
    yield "!!python/object/apply:os.system ['true']", "application/x-yaml"


def publish_hostile(url: str) -> None:
    with Connection(url) as connection:
        channel: Any = connection.channel()
        exchange = Exchange("celeryev", type="fanout")
        producer = Producer(channel, exchange=exchange)
        for body, content_type in hostile_payloads():
            producer.publish(body, content_type=content_type, content_encoding="utf-8", routing_key="task.multi")
        # What Kombu itself expects around a body.
        for raw in (
            b"hello",
            b"5",
            b"{}",
            b'{"properties": {}}',
            b'{"body": "x", "properties": []}',
            b"\xff",
            b"[" * 999,
        ):
            assert channel.client.publish("/0.celeryev/task.multi", raw) >= 1


async def test_application_appears_live_and_is_not_changed(
    shop: Shop, server: MahavishnuServer, unique: Any, tmp_path: Path
) -> None:
    prefix = unique("shop").replace("_", "")
    shop.worker("a", "orders")
    mail = shop.worker("b", "mail")
    async with connect(server) as client:
        await client.subscribe("global")
        observer = await asyncio.to_thread(shop.observer, server, prefix, "--settle-seconds", "0.5")
        pools = {"a": "orders", "b": "mail"}
        added = [
            {"event": "worker.added", "worker_id": f"{prefix}-{name}_box", "pool_id": f"{prefix}-{queue}"}
            for name, queue in pools.items()
        ]
        joined = await events_until(client, prefix, *added)
        assert {message["data"]["reported_by"] for message in joined} == {"celery"}

        await asyncio.to_thread(publish_hostile, shop.url)
        # What runs, and what comes out: as without an observer.
        started = await asyncio.to_thread(shop.run_client)
        assert started["results"] == [6, [2, 4], 6]
        root, failed_id = f"{prefix}-{started['chain']}", f"{prefix}-{started['failing']}"
        seen = await events_until(
            client,
            prefix,
            {"event": "workflow.failed", "workflow_id": failed_id},
            {"event": "workflow.completed", "workflow_id": root},
        )
        # The event of a task's end may come after those of the task that it has started.
        names = [m["event"].removeprefix("workflow.") for m in seen if id_of(m) == root]
        assert (names[:2], names[-1]) == (["created", "started"], "completed")
        stages = dict.fromkeys(("stages_queued", "stage_started", "stage_completed"), 3)
        assert Counter(names[2:-1]) == {**stages, "stage_added": 2}
        assert sum(message["event"] == "workflow.stage_retrying" for message in seen) == 1
        (failure,) = (m for m in seen if m["event"] == "workflow.stage_failed" and id_of(m) == failed_id)
        assert failure["data"]["error"] == "ValueError('kaputt')"
        assert "fail_first" not in json.dumps(seen)
        seqs = [message["seq"] for message in seen]
        assert seqs == sorted(set(seqs))

        # A killed worker: it goes offline, and what became of its task is not guessed.
        held = shop.task("notify", 7, wait_for=str(tmp_path / "never")).apply_async()
        await events_until(client, prefix, {"event": "workflow.stage_started", "workflow_id": f"{prefix}-{held.id}"})
        kill_at_once(process_tree(mail.pid))
        offline = {"event": "worker.status_changed", "worker_id": f"{prefix}-b_box", "status": "offline"}
        killed = await events_until(client, prefix, offline)
        messages = [m["data"]["message"] for m in killed if m["event"] == "workflow.stage_log"]
        assert messages == ["Worker lost. Celery does not report what became of the task"]
        status = await client.request("get_workflow_status", workflow_id=f"{prefix}-{held.id}")
        assert status["data"]["status"] == "running"

    observer.terminate()
    assert await asyncio.to_thread(observer.wait, TIMEOUT_SECONDS) == 0
    log = shop.log("observer")
    assert "Observer stopped" in log
    assert "Traceback" not in log
    assert "\x1b" not in log
    assert "\nERROR root" not in log
    assert "broker unavailable" not in log


@pytest.mark.chaos
async def test_observer_survives_outages_of_the_broker_and_its_own_death(
    shop: Shop, server: MahavishnuServer, unique: Any, tmp_path: Path
) -> None:
    prefix = unique("shop").replace("_", "")
    shop.worker("a", "orders")
    shop.worker("b", "mail")
    async with connect(server) as client:
        await client.subscribe("global")
        observer = await asyncio.to_thread(shop.observer, server, prefix, "--settle-seconds", "0.5")
        gate = tmp_path / "gate"
        held = shop.task("notify", 7, wait_for=str(gate)).apply_async()
        workflow = {"workflow_id": f"{prefix}-{held.id}"}
        await events_until(client, prefix, {"event": "workflow.stage_started", **workflow})
        for _ in range(3):
            await asyncio.to_thread(shop.valkey.kill)
            await asyncio.to_thread(
                wait_until, lambda: "broker unavailable" in shop.log("observer"), timeout_seconds=TIMEOUT_SECONDS
            )
            await asyncio.to_thread(shop.valkey.start)
            (*_, gap) = await events_until(client, prefix, {"event": "workflow.stage_log", **workflow})
            assert "events of this time are missing" in gap["data"]["message"]
        observer.kill()
        observer.wait(timeout=TIMEOUT_SECONDS)
        await asyncio.to_thread(shop.observer, server, prefix, "--settle-seconds", "0.5", name="second")
        await asyncio.to_thread(
            wait_until, lambda: "continues with 1 stored tasks" in shop.log("second"), timeout_seconds=TIMEOUT_SECONDS
        )
        gate.touch()
        ended = await events_until(client, prefix, {"event": "workflow.completed", **workflow})
        assert not any(message["event"] in ("workflow.created", "workflow.stage_started") for message in ended)
