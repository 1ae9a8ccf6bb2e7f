"""`manage.py emit_test_event --stdin`: events from lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable

from realtime.events.types import EVENT_TYPES
from realtime.management.commands.emit_test_event import MAX_LINE_BYTES
from tests.harness.client import Message, connect
from tests.harness.matchers import A_NUMBER, A_TIME, an_event
from tests.harness.server import MahavishnuServer
from tests.management.emit_command import emit, emit_lines, emit_process, sample_data

Unique = Callable[[str], str]


async def test_known_events_reach_exactly_their_channels(server_on_both: MahavishnuServer, unique: Unique) -> None:
    ids = {"workflow": unique("wf"), "pool": unique("pool"), "worker": unique("worker")}
    lines = [
        {"event": name, "data": {f"{kind}_id": ids[kind] for kind in EVENT_TYPES[name].rooms_from}}
        for name in EVENT_TYPES
    ]
    channels = ["global", *(f"{kind}:{id}" for kind, id in ids.items())]
    expected: dict[str, list[Message]] = {channel: [] for channel in channels}
    for name, struct in EVENT_TYPES.items():
        for channel in ("global", *(f"{kind}:{ids[kind]}" for kind in struct.rooms_from)):
            expected[channel].append(an_event(name, sample_data(name, ids), room=channel))
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


async def test_events_with_other_names_are_delivered_unchanged(server: MahavishnuServer, unique: Unique) -> None:
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
            {"event": "heartbeat", "room": "summary"},
        )
        received = await client.events(8)
        await client.expect_nothing(0.2)
    expected = [
        ("workflow.paused", {"workflow_id": workflow_id, "by": "me"}, [rooms[0], "global"]),
        ("worker.warmed_up", {"worker_id": worker_id}, [rooms[1], "global"]),
        ("deploy.finished", {}, [rooms[2], "global"]),
        ("heartbeat", {}, ["global"]),
        ("heartbeat", {}, ["global"]),
    ]
    seqs = [each["seq"] for each in acknowledged]
    assert acknowledged == [
        {"line": number, "seq": seqs[number - 1], "event": name, "rooms": rooms_of}
        for number, (name, _, rooms_of) in enumerate(expected, start=1)
    ]
    # Events of one transaction may arrive room by room; within a room they arrive in order.
    assert sorted(received, key=lambda message: (message["seq"], message["room"] == "global")) == [
        an_event(name, {**data, "timestamp": A_TIME, "test": True}, room=room, seq=seq)
        for (name, data, rooms_of), seq in zip(expected, seqs, strict=True)
        for room in rooms_of
    ]


async def test_received_message_can_be_sent_again(server: MahavishnuServer, unique: Unique) -> None:
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


def test_invalid_lines_are_reported_and_the_others_sent(server: MahavishnuServer, unique: Unique) -> None:
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
    *errors, total = done.stderr.splitlines()
    channels = (
        "expected 'global', 'summary', or 'workflow:', 'pool:' or 'worker:' followed by an id "
        "(1 to 128 of the characters A-Z a-z 0-9 . _ -); "
        "for the items of a stage, 'workflow:', the id, '/' and the percent-encoded name of the stage"
    )
    assert errors == [
        "line 2: JSON is malformed: invalid character (byte 4)",
        "line 3: Expected `object`, got `array`",
        "line 4: Object missing required field `event`",
        "line 5: Expected `str`, got `int` - at `$.event`",
        "line 6: Expected `object`, got `int` - at `$.data`",
        f"line 7: Invalid channel name 'nowhere:x': {channels}",
        "line 8: workflow.started is about a workflow: "
        "expected its id, as an argument, as data.workflow_id or in a channel workflow:<id>",
        "line 9: worker.status_changed: Expected `str`, got `int` - at `data.status`",
        "line 10: Invalid event name 'a b': expected words of letters, digits, '_' and '-' with dots between them, "
        "64 characters at most",
        f"line 11: longer than {MAX_LINE_BYTES} bytes",
        "line 14: nested too deeply",
        "line 15: The event's data takes 104072 bytes: expected at most 65536, even when truncated",
    ]
    assert total == "CommandError: Invalid lines: 12."


def test_line_is_acknowledged_while_the_input_is_open(server: MahavishnuServer, unique: Unique) -> None:
    with emit_process(server) as process:
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


def test_closed_output_ends_the_command(server: MahavishnuServer) -> None:
    with emit_process(server) as process:
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


async def test_thousands_of_lines_arrive_in_order(server: MahavishnuServer, unique: Unique) -> None:
    pool_id = unique("pool")
    count = 3000
    async with connect(server) as client:
        await client.subscribe(f"pool:{pool_id}")
        acknowledged = emit_lines(
            server,
            *({"event": "pool.drained", "data": {"pool_id": pool_id, "number": n}} for n in range(count)),
            run=MahavishnuServer.manage,  # All of them are published before the process exits.
        )
        received = await client.events(count, within_seconds=30)
    assert [each["line"] for each in acknowledged] == list(range(1, count + 1))
    assert [message["data"]["number"] for message in received] == list(range(count))
    assert [message["seq"] for message in received] == [each["seq"] for each in acknowledged]
