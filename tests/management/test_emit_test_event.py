"""`manage.py emit_test_event`: an event from another process reaches every client, like a real one."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from django.core.management import CommandError, call_command

from tests.events.event_cases import NEW_WORKER
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.matchers import A_TIME, an_event
from tests.harness.server import MahavishnuServer
from tests.management.emit_command import emit, sample_data

Unique = Callable[[str], str]

STORED_FOR_LATER = "Events are stored; clients receive them when they resume.\n"


async def test_given_fields_replace_the_samples_and_unknown_fields_are_kept(
    server: MahavishnuServer, unique: Unique
) -> None:
    workflow_id = unique("wf")
    fields = {
        "name": "write",
        "adapter": "llamaindex",
        "prompt": "Write “code”",
        "timestamp": "2026-02-10T20:00:00Z",
        "mine": [1, {"a": None}],
    }
    async with connect(server) as client:
        await client.subscribe(f"workflow:{workflow_id}")
        data = json.dumps({**fields, "test": False})
        done = server.manage("emit_test_event", "workflow.started", "--id", workflow_id, "--data", data)
        assert await client.next() == an_event(
            "workflow.started", {"workflow_id": workflow_id, **fields, "test": True}, room=f"workflow:{workflow_id}"
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Sent workflow.started with seq ")
    assert done.stdout.endswith(f" to workflow:{workflow_id}, global\n")


async def test_worker_event_reaches_its_pool_and_the_additional_room(server: MahavishnuServer, unique: Unique) -> None:
    worker_id, pool_id, other_id = unique("worker"), unique("pool"), unique("pool")
    server.services.create_pool(pool_id=pool_id)
    server.services.register_worker(worker_id=worker_id, pool_id=pool_id)
    rooms = [f"worker:{worker_id}", f"pool:{pool_id}", f"pool:{other_id}"]
    async with connect(server) as client:
        for room in rooms:
            await client.subscribe(room)
        done = emit(
            server, "worker.status_changed", "--id", worker_id, "--data", '{"status": "error"}', "--room", rooms[2]
        )
        assert done.returncode == 0, done.stderr
        ids = {"worker_id": worker_id, "pool_id": pool_id}
        data = {**ids, "status": "error", **NEW_WORKER, "timestamp": A_TIME, "test": True}
        received = {message["room"]: message for message in await client.events(3)}
        await client.expect_nothing(0.2)
    assert received == {room: an_event("worker.status_changed", data, room=room) for room in rooms}
    # Nothing was changed.
    assert (
        server.services_driver.execute(
            "from orchestration.models import Worker; result = Worker.objects.get(pk=id).status", id=worker_id
        )
        == "idle"
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "EVENT is missing: give a name, such as workflow.started, or --stdin."),
        (["a.b", "--data", "{"], "--data must be a JSON object: Input data was truncated"),
        (["a.b", "--data", "[]"], "--data must be a JSON object: Expected `object`, got `array`"),
        (
            ["pool.closed"],
            "pool.closed is about a pool: expected its id, as an argument, as data.pool_id or in a channel pool:<id>",
        ),
        (
            ["workflow.started", "--id", "a", "--data", '{"workflow_id": "b"}'],
            "data.workflow_id is 'b', but the id argument is 'a'",
        ),
        (
            ["session.created", "--data", '{"connection_id": "x"}'],
            'Event names starting with "session." are reserved',
        ),
        (["a.b", "--id", "x"], "a.b is not about a workflow, pool or worker: expected a channel, and no id"),
        (
            ["--stdin", "--room", "global"],
            "--stdin cannot be combined with EVENT, --id, --data or --room.",
        ),
    ],
)
def test_invalid_arguments_are_rejected(capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str) -> None:
    with pytest.raises(CommandError) as raised:
        call_command("emit_test_event", *arguments)
    assert (str(raised.value), capsys.readouterr().out) == (reason, "")


async def test_event_without_a_server_is_delivered_on_resume(start_server: StartServer) -> None:
    server = start_server(started=False)
    done = emit(server, "workflow.completed", "--id", "wf_1")
    assert (done.returncode, done.stdout) == (0, "Sent workflow.completed with seq 1 to workflow:wf_1, global\n")
    assert done.stderr == (
        f"No server is running at {server.http_url}/health (Connection refused). "
        f"Check MAHAVISHNU_HOST and MAHAVISHNU_PORT. {STORED_FOR_LATER}"
    )
    server.start()
    async with connect(server) as client:
        await client.subscribe("workflow:wf_1", since=0)
        data = sample_data("workflow.completed", {"workflow": "wf_1"})
        assert await client.next() == an_event("workflow.completed", data, room="workflow:wf_1", seq=1, replay=True)


def test_server_with_another_database_is_detected(server: MahavishnuServer, start_server: StartServer) -> None:
    other = start_server(started=False)
    other.environment["MAHAVISHNU_PORT"] = str(server.port)
    assert emit(other, "a.b", "--room", "global").stderr == (
        "Unknown event name a.b: data sent unchanged.\n"
        f"The server at {server.http_url}/health uses another database. "
        f"Check DATABASE_URL and MAHAVISHNU_VAR_DIR. {STORED_FOR_LATER}"
    )
