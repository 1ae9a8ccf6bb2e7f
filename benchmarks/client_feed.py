"""A server that costs a client nothing but reading: it answers `subscribe`, and sends prepared events on request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

HOST = "127.0.0.1"
STAGES = [f"stage_{number}" for number in range(5)]
EVENTS_PER_STAGE = 3
_AT = "2026-02-10T20:00:00Z"
_PART_FRAMES = 200


def snapshot(workflow_id: str) -> dict[str, Any]:
    stage = {
        "status": "pending", "worker_id": None, "attempt": 0, "last_attempt": 1, "queued_at": None, "started_at": None,
        "finished_at": None, "duration_ms": None, "progress": None, "message": "", "error": "", "retry_at": None,
    }  # fmt: skip
    return {
        "workflow_id": workflow_id, "name": "report", "status": "running", "stages_completed": 0,
        "total_stages": len(STAGES), "pool_id": "pool_local", "created_at": _AT, "started_at": _AT, "finished_at": None,
        "held": None, "adapter": "python", "prompt": "Write a report", "params": {}, "deadline_at": None,
        "result": None, "error": "", "stage_counts": {"pending": len(STAGES)},
        "stages": [{"position": n, "stage_name": name, "step": n, **stage} for n, name in enumerate(STAGES)],
    }  # fmt: skip


def events(runs: int, *, room: str | None) -> list[bytes]:
    """Return the frames of the events of all runs, stage after stage: started, progress, completed."""
    frames: list[bytes] = []
    for completed, stage_name in enumerate(STAGES):
        kinds: list[tuple[str, dict[str, Any]]] = [
            ("workflow.stage_started", {"worker_id": "worker_1", "attempt": 1}),
            ("workflow.stage_progress", {"progress": 0.5, "message": "half"}),
            ("workflow.stage_completed", {"result": {}, "duration_ms": 12, "stages_completed": completed + 1}),
        ]
        for name, fields in kinds:
            for run in range(runs):
                data = {"timestamp": _AT, "workflow_id": f"wf_{run}", "stage_name": stage_name, **fields}
                message = {
                    "id": "0d9c8b7a-6958-4746-9534-2312f0e9d8c7", "type": "event", "event": name, "data": data,
                    "timestamp": _AT, "room": room or f"workflow:wf_{run}", "seq": len(frames) + 1,
                }  # fmt: skip
                frames.append(Frame(Opcode.TEXT, json.dumps(message).encode()).serialize(mask=False))
    return frames


async def _serve(websocket: ServerConnection, *, runs: int) -> None:
    limits = {"max_messages_per_second": 1e6, "max_message_burst": 100_000}
    welcome = {"connection_id": "c", "epoch": "e", "seq": 0, "limits": limits}
    await _send(websocket, type="event", event="session.created", data=welcome)
    # A client that has seen enough leaves without a closing handshake.
    with contextlib.suppress(ConnectionClosed):
        await _answer(websocket, {room: events(runs, room=room) for room in ("global", None)})


async def _answer(websocket: ServerConnection, prepared: dict[str | None, list[bytes]]) -> None:
    room: str | None = None
    async for text in websocket:
        message = json.loads(text)
        answer = {"event": message.get("event"), "correlation_id": message.get("id")}
        if message["type"] == "ping":
            await _send(websocket, **answer, type="pong", data={})
        elif message["event"] == "subscribe":
            channel = message["data"]["channel"]
            room = "global" if channel == "global" else None
            data = {"channel": channel, "status": "subscribed", "seq": 0, "epoch": "e", "recovered": True, "missed": 0}
            if "snapshot" in message["data"]:
                data["snapshot"] = snapshot(channel.removeprefix("workflow:"))
            await _send(websocket, **answer, type="response", data=data)
        else:
            frames = prepared[room]
            for start in range(0, len(frames), _PART_FRAMES):
                websocket.transport.write(b"".join(frames[start : start + _PART_FRAMES]))
                # `send` waits until the client has read most of it.
                await _send(websocket, type="gossip", event="part", data={})
            await _send(websocket, **answer, type="response", data={})


async def _send(websocket: ServerConnection, **fields: Any) -> None:
    await websocket.send(json.dumps({"id": "1", "timestamp": _AT, **fields}))


def _run(port_to: Connection, runs: int) -> None:
    async def main() -> None:
        handler = partial(_serve, runs=runs)
        async with serve(handler, HOST, 0, ping_interval=None, compression=None) as server:
            port_to.send(next(iter(server.sockets)).getsockname()[1])
            await asyncio.get_running_loop().create_future()

    asyncio.run(main())


@contextmanager
def feed(runs: int) -> Iterator[str]:
    """Start the server in another process, and return its URL."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, runs), daemon=True)
    process.start()
    try:
        yield f"ws://{HOST}:{ours.recv()}"
    finally:
        process.kill()
        process.join()
