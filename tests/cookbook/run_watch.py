"""The events of a run, as a client receives them over restarts of the server, and as the log has them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

import mahavishnu_client
from mahavishnu_client.events import Event, Position
from mahavishnu_client.fold import decode_state, fold
from mahavishnu_client.state import Run
from mahavishnu_client.streams import EventStream
from tests.fold.channel_states import differences
from tests.harness.client import Client, connect
from tests.harness.engine import Engine
from tests.worker.run_events import END_EVENTS

WITHIN_SECONDS = 120

ITEM_ENDS = ["workflow.stage_completed", "workflow.stage_failed"]
PAGE_EVENTS = 100

EPOCH = "from realtime.eventlog.position import current_position\nresult = current_position().epoch"


class RunWatch:
    """A client that follows a run from its first event on.

    Attributes:
        events: The events that it has received.
    """

    def __init__(self, workflow_id: str, engine: Engine, stream: EventStream) -> None:
        self.events: list[Event] = []
        self._workflow_id = workflow_id
        self._engine = engine
        self._stream = stream

    async def until(self, name: str, **data: Any) -> Event:
        """Return the next event with this name and these fields."""
        return await self._until(
            lambda event: event.name == name and data.items() <= msgspec.to_builtins(event.data).items()
        )

    async def until_end(self) -> Event:
        """Return the event that ends the run."""
        return await self._until(lambda event: event.name in END_EVENTS)

    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def of(self, name: str) -> list[dict[str, Any]]:
        """Return the data of the events with this name."""
        return [msgspec.to_builtins(event.data) for event in self.events if event.name == name]

    async def assert_nothing_is_silent(self) -> None:
        """Check that this client has each event of the log once and in order, and that they make the snapshot."""
        epoch = self._engine.execute(EPOCH)
        channel = f"workflow:{self._workflow_id}"
        async with connect(self._engine.server) as client:
            logged = await read_log(client, channel, epoch)
            answer = await client.subscribe(channel, snapshot=True)
        assert logged == sorted(set(logged))
        while self.events[-1].seq < logged[-1]:
            await self._until(lambda event: True)
        assert [event.seq for event in self.events] == logged
        assert self.events[0].name == "workflow.created"
        folded: Run | None = None
        for event in self.events:
            folded = fold(channel, folded, event)
        snapshot = decode_state(channel, msgspec.json.encode(answer["data"]["snapshot"]))
        assert list(differences(folded, snapshot)) == []
        assert snapshot is not None and not snapshot.truncated

    async def assert_each_item_ended_once(self) -> None:
        """Check that the channel of items has the end of each, once, in a run that is completed and was not retried."""
        async with connect(self._engine.server) as client:
            for started in self.of("workflow.map_started"):
                ended = await read_ended_items(client, f"workflow:{self._workflow_id}/{started['stage_name']}")
                expected = {f"{started['stage_name']}[{number}]" for number in range(started["total"])}
                assert Counter(ended) == Counter(expected)

    async def _until(self, is_wanted: Callable[[Event], bool]) -> Event:
        async with asyncio.timeout(WITHIN_SECONDS):
            async for item in self._stream:
                assert isinstance(item, Event), item
                self.events.append(item)
                if is_wanted(item):
                    return item
        raise AssertionError(f"the run was deleted after {self.names()}")


async def read_log(client: Client, channel: str, epoch: str) -> list[int]:
    """Return the `seq` of each event of a channel that the log has. Nothing changes meanwhile."""
    answer = await client.subscribe(channel, since=0, epoch=epoch)
    assert answer["data"]["recovered"], answer
    logged = [event["seq"] for event in await client.events(answer["data"]["missed"])]
    await client.unsubscribe(channel)
    return logged


async def read_ended_items(client: Client, channel: str) -> list[str]:
    """Return the item of each event in a channel of items that says how one has ended."""
    ended: list[str] = []
    after: int | None = 0
    while after is not None:
        answer = await client.request("list_events", channel=channel, after=after, names=ITEM_ENDS, limit=PAGE_EVENTS)
        ended += [event["data"]["stage_name"] for event in answer["data"]["events"]]
        after = answer["data"]["next_seq"]
    return ended


@asynccontextmanager
async def watch(engine: Engine, workflow_id: str) -> AsyncIterator[RunWatch]:
    """Follow a run from its first event on, also if it has begun."""
    epoch = engine.execute(EPOCH)
    async with mahavishnu_client.connect(engine.server.ws_url) as client:
        stream = client.events(f"workflow:{workflow_id}", resume_from=Position(0, epoch))
        yield RunWatch(workflow_id, engine, stream)
