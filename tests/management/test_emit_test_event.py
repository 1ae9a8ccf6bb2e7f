"""`manage.py emit_test_event`: events from a process of its own reach every client, as real ones would."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from realtime.events.types import EVENT_TYPES
from realtime.management.commands.emit_test_event import MAX_LINE_BYTES
from tests.harness.client import Message, connect
from tests.harness.fixtures import StartServer
from tests.harness.matchers import A_NUMBER, A_TIME, an_event
from tests.harness.server import MahavishnuServer
from tests.harness.services import PROJECT_DIR

Unique = Callable[[str], str]

STORED_ALL_THE_SAME = "Events are stored all the same, and reach clients that resume.\n"


def emit(server: MahavishnuServer, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
    return server.manage("emit_test_event", *arguments, input=input)


def emit_lines(server: MahavishnuServer, *lines: Any) -> list[dict[str, Any]]:
    """What was acknowledged; nothing may have been said besides."""
    done = emit(server, "--stdin", input="".join(f"{json.dumps(line)}\n" for line in lines))
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def emitting(server: MahavishnuServer) -> Iterator[subprocess.Popen[str]]:
    """The command with its input and output in the hands of the test."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "manage.py", "emit_test_event", "--stdin"],
        cwd=PROJECT_DIR,
        env=server.environment,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )
    with process:
        yield process


def data_of(name: str, ids: dict[str, str]) -> dict[str, Any]:
    """The data of an event of which nothing but these ids was given."""
    struct = EVENT_TYPES[name]
    return {f"{kind}_id": ids[kind] for kind in struct.rooms_from} | {
        **{key: value for key, value in struct.sample.items() if key != "pool_id"},
        "timestamp": A_TIME,
        "test": True,
    }


async def test_every_event_of_the_server_comes_in_each_of_its_channels_and_no_other(
    server_on_both: MahavishnuServer, unique: Unique
) -> None:
    ids = {"workflow": unique("wf"), "pool": unique("pool"), "worker": unique("worker")}
    lines = [
        {"event": name, "data": {f"{kind}_id": ids[kind] for kind in EVENT_TYPES[name].rooms_from}}
        for name in EVENT_TYPES
    ]
    channels = ["global", *(f"{kind}:{id}" for kind, id in ids.items())]
    expected: dict[str, list[Message]] = {channel: [] for channel in channels}
    for name, struct in EVENT_TYPES.items():
        for channel in ("global", *(f"{kind}:{ids[kind]}" for kind in struct.rooms_from)):
            expected[channel].append(an_event(name, data_of(name, ids), room=channel))
    async with connect(server_on_both) as client:
        for channel in channels:
            await client.subscribe(channel)
        acknowledged = emit_lines(server_on_both, *lines)
        received: dict[str, list[Message]] = {channel: [] for channel in channels}
        for message in await client.events(sum(map(len, expected.values()))):
            received[message["room"]].append(message)
        await client.expect_nothing(0.2)
    assert received == expected
    assert acknowledged == [
        {
            "line": number,
            "seq": message["seq"],
            "event": message["event"],
            "rooms": [*(f"{kind}:{ids[kind]}" for kind in EVENT_TYPES[message["event"]].rooms_from), "global"],
        }
        for number, message in enumerate(received["global"], start=1)
    ]


async def test_what_is_given_takes_the_place_of_the_sample_and_further_keys_pass_through(
    server: MahavishnuServer, unique: Unique
) -> None:
    workflow_id = unique("wf")
    given = {
        "adapter": "llamaindex",
        "prompt": "Write “code”",
        "timestamp": "2026-02-10T20:00:00Z",
        "mine": [1, {"a": None}],
    }
    async with connect(server) as client:
        await client.subscribe(f"workflow:{workflow_id}")
        done = emit(server, "workflow.started", "--id", workflow_id, "--data", json.dumps({**given, "test": False}))
        assert await client.next() == an_event(
            "workflow.started", {"workflow_id": workflow_id, **given, "test": True}, room=f"workflow:{workflow_id}"
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("workflow.started is event ")
    assert done.stdout.endswith(f", in workflow:{workflow_id}, global\n")


async def test_a_worker_s_event_goes_to_the_pool_it_is_registered_in_and_to_a_further_room(
    server: MahavishnuServer, unique: Unique
) -> None:
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
        data = {"worker_id": worker_id, "pool_id": pool_id, "status": "error", "timestamp": A_TIME, "test": True}
        received = {message["room"]: message for message in await client.events(3)}
        await client.expect_nothing(0.2)
    assert received == {room: an_event("worker.status_changed", data, room=room) for room in rooms}
    # Nothing was changed.
    assert (
        server.driver().execute(
            "from orchestration.models import Worker; result = Worker.objects.get(pk=id).status", id=worker_id
        )
        == "idle"
    )


async def test_an_event_of_any_name_is_delivered_as_given(server: MahavishnuServer, unique: Unique) -> None:
    workflow_id, worker_id, pool_id = unique("wf"), unique("worker"), unique("pool")
    rooms = [f"workflow:{workflow_id}", f"worker:{worker_id}", f"pool:{pool_id}", "global"]
    async with connect(server) as client:
        for room in rooms:
            await client.subscribe(room)
        acknowledged = emit_lines(
            server,
            {"event": "workflow.paused", "data": {"workflow_id": workflow_id, "by": "me"}},
            {"event": "worker.warmed_up", "room": f"worker:{worker_id}"},
            {"event": "deploy.finished", "room": f"pool:{pool_id}", "type": "event", "id": "x", "timestamp": "y"},
            {"event": "heartbeat"},
        )
        received = await client.events(7)
        await client.expect_nothing(0.2)
    expected = [
        ("workflow.paused", {"workflow_id": workflow_id, "by": "me"}, [rooms[0], "global"]),
        ("worker.warmed_up", {"worker_id": worker_id}, [rooms[1], "global"]),
        ("deploy.finished", {}, [rooms[2], "global"]),
        ("heartbeat", {}, ["global"]),
    ]
    seqs = [each["seq"] for each in acknowledged]
    assert acknowledged == [
        {"line": number, "seq": seqs[number - 1], "event": name, "rooms": rooms_of}
        for number, (name, _, rooms_of) in enumerate(expected, start=1)
    ]
    # Events that are committed together may come room by room; in one room they come in order.
    assert sorted(received, key=lambda message: (message["seq"], message["room"] == "global")) == [
        an_event(name, {**data, "timestamp": A_TIME, "test": True}, room=room, seq=seq)
        for (name, data, rooms_of), seq in zip(expected, seqs, strict=True)
        for room in rooms_of
    ]


async def test_a_whole_message_of_the_reference_can_be_sent_again(server: MahavishnuServer, unique: Unique) -> None:
    pool_id = unique("pool")
    status = {"active_workers": 5, "idle_workers": 2, "queue_size": 10, "tasks_completed": 150}
    data = {"pool_id": pool_id, "status": status, "timestamp": "2026-02-10T20:00:00Z"}
    message = {"type": "event", "event": "pool.status_changed", "data": data, "room": f"pool:{pool_id}"}
    async with connect(server) as client:
        await client.subscribe(f"pool:{pool_id}")
        emit_lines(server, message)
        (again,) = await client.events(1)
        assert again == an_event("pool.status_changed", {**data, "test": True}, room=f"pool:{pool_id}")
        del again["data"]["test"]
        emit_lines(server, again)
        assert (await client.next())["data"] == {**data, "test": True}


def test_a_bad_line_is_named_with_its_number_and_the_others_go_on(server: MahavishnuServer, unique: Unique) -> None:
    good = f'{{"event": "pool.drained", "data": {{"pool_id": "{unique("pool")}"}}}}'
    lines = [
        good,
        "not JSON",
        "[1]",
        "{}",
        '{"event": 5}',
        '{"event": "a.b", "data": 5}',
        '{"event": "a.b", "room": "nowhere:x"}',
        '{"event": "workflow.started"}',
        '{"event": "worker.status_changed", "data": {"worker_id": "w", "status": 5}}',
        '{"event": "a b"}',
        '{"event": "a.b", "data": {"x": "' + "x" * MAX_LINE_BYTES + '"}}',
        "",
        "   \t\r",
        '{"event": "a.b", "data": ' + '{"a":' * 5000 + "1" + "}" * 5000 + "}",
        '{"event": "a.b", "data": {' + ", ".join(f'"{number:099}": 1' for number in range(1000)) + "}}",
        good,
    ]
    done = emit(server, "--stdin", input="\n".join(lines))
    assert done.returncode == 1
    assert [json.loads(line)["line"] for line in done.stdout.splitlines()] == [1, len(lines)]
    *bad, total = done.stderr.splitlines()
    channels = "expected 'global', or workflow|pool|worker ':' [A-Za-z0-9._-]{1,128}"
    assert bad == [
        "line 2: JSON is malformed: invalid character (byte 4)",
        "line 3: Expected `object`, got `array`",
        "line 4: Object missing required field `event`",
        "line 5: Expected `str`, got `int` - at `$.event`",
        "line 6: Expected `object`, got `int` - at `$.data`",
        f"line 7: Invalid channel name 'nowhere:x': {channels}",
        "line 8: workflow.started is about a workflow: "
        "expected its id, as such, as data.workflow_id or in a channel workflow:<id>",
        "line 9: worker.status_changed: Expected `str`, got `int` - at `data.status`",
        "line 10: Invalid event name 'a b': expected words of letters, digits, '_' and '-' with dots between them, "
        "64 characters at most",
        f"line 11: longer than {MAX_LINE_BYTES} bytes",
        "line 14: nested too deeply",
        "line 15: The event's data takes 104072 bytes: expected at most 65536, even when cut",
    ]
    assert total == "CommandError: Lines that could not be used: 12."


def test_a_line_is_acknowledged_while_the_input_stays_open(server: MahavishnuServer, unique: Unique) -> None:
    with emitting(server) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in (1, 2):
            pool_id = unique("pool")
            process.stdin.write(json.dumps({"event": "pool.created", "data": {"pool_id": pool_id}}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline()) == {
                "line": number,
                "seq": A_NUMBER,
                "event": "pool.created",
                "rooms": [f"pool:{pool_id}", "global"],
            }
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_a_reader_that_goes_away_ends_the_command(server: MahavishnuServer) -> None:
    with emitting(server) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write('{"event": "a.b"}\n')
        process.stdin.flush()
        assert process.wait(timeout=60) == 1
        assert process.stderr.read() == (
            "CommandError: Standard output was closed; lines without an acknowledgement may be lost.\n"
        )


async def test_thousands_of_lines_come_in_order(server: MahavishnuServer, unique: Unique) -> None:
    pool_id = unique("pool")
    count = 3000
    async with connect(server) as client:
        await client.subscribe(f"pool:{pool_id}")
        acknowledged = emit_lines(
            server, *({"event": "pool.drained", "data": {"pool_id": pool_id, "number": n}} for n in range(count))
        )
        received = await client.events(count, within_seconds=30)
    assert [each["line"] for each in acknowledged] == list(range(1, count + 1))
    assert [message["data"]["number"] for message in received] == list(range(count))
    assert [message["seq"] for message in received] == [each["seq"] for each in acknowledged]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "Which event? Expected its name, such as workflow.started, or --stdin."),
        (["a.b", "--data", "{"], "--data is no JSON object: Input data was truncated"),
        (["a.b", "--data", "[]"], "--data is no JSON object: Expected `object`, got `array`"),
        (
            ["pool.closed"],
            "pool.closed is about a pool: expected its id, as such, as data.pool_id or in a channel pool:<id>",
        ),
        (
            ["workflow.started", "--id", "a", "--data", '{"workflow_id": "b"}'],
            "data.workflow_id is 'b' and the id given is 'a'",
        ),
        (
            ["session.created", "--data", '{"connection_id": "x"}'],
            "session.created is for one connection alone, and clients act on it: expected another name",
        ),
        (["a.b", "--id", "x"], "a.b is about no workflow, pool or worker: expected a channel, and no id"),
        (
            ["--stdin", "--room", "global"],
            "With --stdin the lines say everything: expected no EVENT, --id, --data or --room.",
        ),
    ],
)
def test_what_cannot_be_sent_is_refused_in_words(
    capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    from django.core.management import CommandError, call_command

    with pytest.raises(CommandError) as refusal:
        call_command("emit_test_event", *arguments)
    assert (str(refusal.value), capsys.readouterr().out) == (reason, "")


async def test_without_a_server_an_event_is_stored_and_reaches_those_that_resume(start_server: StartServer) -> None:
    server = start_server(started=False)
    done = emit(server, "workflow.completed", "--id", "wf_1")
    assert (done.returncode, done.stdout) == (0, "workflow.completed is event 1, in workflow:wf_1, global\n")
    assert done.stderr == (
        f"No server is running: {server.http_url}/health does not answer (Connection refused). "
        f"MAHAVISHNU_HOST and MAHAVISHNU_PORT say where to look. {STORED_ALL_THE_SAME}"
    )
    server.start()
    async with connect(server) as client:
        await client.subscribe("workflow:wf_1", since=0)
        data = data_of("workflow.completed", {"workflow": "wf_1"})
        assert await client.next() == an_event("workflow.completed", data, room="workflow:wf_1", seq=1, replay=True)


def test_a_server_that_uses_another_database_is_told_apart(server: MahavishnuServer, start_server: StartServer) -> None:
    other = start_server(started=False)
    other.environment["MAHAVISHNU_PORT"] = str(server.port)
    assert emit(other, "a.b", "--room", "global").stderr == (
        "This server itself never announces a.b: sent as given.\n"
        f"The server at {server.http_url}/health uses another database. "
        f"DATABASE_URL and MAHAVISHNU_VAR_DIR say which to use. {STORED_ALL_THE_SAME}"
    )
