"""What a subscriber is told of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.harness.client import Client, Message

PAUSE_SECONDS = 0.02

ENDS = ("workflow.completed", "workflow.failed", "workflow.cancelled")


async def until(client: Client, *names: str, within_seconds: float = 60) -> list[Message]:
    """Every event up to the first of these, with it."""
    events: list[Message] = []
    while not events or events[-1]["event"] not in names:
        events.append(await client.event(within_seconds=within_seconds))
    return events


async def until_the_end(client: Client) -> list[Message]:
    return await until(client, *ENDS)


async def eventually(condition: Callable[[], bool], *, what: str, within_seconds: float = 60) -> None:
    """Return as soon as it is so, while everything else goes on.

    Raises:
        TimeoutError: it was not in time.
    """
    try:
        async with asyncio.timeout(within_seconds):
            while True:
                if await asyncio.to_thread(condition):
                    return
                await asyncio.sleep(PAUSE_SECONDS)
    except TimeoutError:
        raise TimeoutError(f"{what}: not within {within_seconds} s") from None


def in_short(events: list[Message]) -> list[str]:
    """Each event's name, and its stage or its worker's status if it is about one."""
    return [_in_short(event["event"], event["data"]) for event in events]


def _in_short(name: str, data: dict[str, Any]) -> str:
    if name == "workflow.stage_retrying":
        return f"{name} {data['stage_name']} {data['attempt']} {data['reason']}"
    if "worker_id" in data and "status" in data:
        return f"{name} {data['worker_id']} {data['status']}"
    return f"{name} {data['stage_name']}" if "stage_name" in data else name


def told(message: Message) -> tuple[str, dict[str, Any]]:
    """The event's name and data, without when it was and how long it took."""
    return message["event"], _timeless(message["data"])


def _timeless(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    hidden = ("timestamp", "duration_ms", "total_duration_ms")
    return {key: _timeless(each) for key, each in value.items() if key not in hidden}
