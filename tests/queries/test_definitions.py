"""`list_definitions`: what clients may start, with its parameters."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from realtime.auth.identity import EVERYONE
from realtime.connection import handlers
from realtime.connection.replay_budget import ReplayBudget
from realtime.database import in_database_thread
from realtime.limits import Limits
from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.requests import ListDefinitions
from realtime.queries import definitions
from realtime.queries.definitions import DefinitionQueries, read_definitions
from realtime.queries.status import StatusQueries
from tests.harness.client import connect
from tests.harness.engine_fixtures import WritePackages
from tests.harness.json_schema import is_valid
from tests.harness.server import MahavishnuServer

MAX_BYTES = Limits().replay_chunk_bytes

SHOP = '''
from orchestration.sdk import stage, workflow

@stage
def only(ctx, inputs):
    return 1

@workflow(adapter="python", name="zz_ship")
def ship(prompt, *, order: int, fast: bool = False):
    """Ship an order.

    Slowly.
    """
    return [only]
'''
SHIP_PARAMETERS = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"order": {"type": "integer"}, "fast": {"type": "boolean", "default": False}},
    "required": ["order"],
    "additionalProperties": False,
}
HOSTILE = """
from enum import Enum
from orchestration.sdk import workflow

class Colour(Enum):
    RED = 1

    @property
    def value(self):
        raise RuntimeError("No colour")

@workflow(name="zz_hostile")
def hostile(prompt, *, colour: Colour):
    "Half a pair: \\ud800."
    return []
"""


def listed(**options: Any) -> dict[str, dict[str, Any]]:
    found = json.loads(read_definitions(**{"max_bytes": MAX_BYTES, **options}).definitions)
    assert [each["name"] for each in found] == sorted(each["name"] for each in found)
    return {each["name"]: each for each in found}


def test_list_has_the_workflows_of_modules_that_can_be_imported(write_packages: WritePackages) -> None:
    write_packages(healthy_shop=SHOP, broken_shop=SHOP.replace("zz_ship", "zz_lost") + "\nraise SystemExit('broken')")
    found = listed()
    assert found["zz_ship"] == {
        "name": "zz_ship",
        "description": "Ship an order.",
        "adapter": "python",
        "parameters": SHIP_PARAMETERS,
    }
    assert "zz_lost" not in found


def test_workflow_whose_parameters_cannot_be_described_accepts_any(
    write_packages: WritePackages, caplog: pytest.LogCaptureFixture, settings: Any
) -> None:
    settings.MAHAVISHNU_LOG_REPEAT_SECONDS = 0
    write_packages(hostile_shop=HOSTILE)
    with caplog.at_level(logging.WARNING):
        found = listed()
    assert found["zz_hostile"]["parameters"] == {}
    assert found["zz_hostile"]["description"] == "Half a pair: ?."
    assert is_valid(found["zz_hostile"]["parameters"], {"any": 1})
    assert "Cannot describe the parameters of workflow zz_hostile" in caplog.text


def test_list_is_cut_at_its_size(write_packages: WritePackages) -> None:
    write_packages(healthy_shop=SHOP)
    whole = read_definitions(max_bytes=MAX_BYTES)
    assert (whole.is_truncated, "zz_ship" in whole.definitions) == (False, True)
    cut = read_definitions(max_bytes=whole.size_bytes - 1)
    assert (cut.is_truncated, "zz_ship" in cut.definitions) == (True, False)
    assert cut.size_bytes < whole.size_bytes


async def test_callers_share_one_read_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Any] = []

    async def read_once(query: Any, **options: Any) -> Any:
        reads.append(query)
        return await in_database_thread(query, **options)

    monkeypatch.setattr(definitions, "in_database_thread", read_once)
    queries = DefinitionQueries(max_bytes=MAX_BYTES)
    left = asyncio.create_task(queries.listed())
    await asyncio.sleep(0)
    left.cancel()
    first, second = await asyncio.gather(queries.listed(), queries.listed())
    assert first is second is await queries.listed()
    assert reads == [read_definitions]
    monkeypatch.setattr(definitions, "CACHE_SECONDS", 0.0)
    assert await queries.listed() is not first


async def test_failed_read_is_repeated_by_the_next_request(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = DefinitionQueries(max_bytes=MAX_BYTES)
    with monkeypatch.context() as patch:
        patch.setattr(definitions, "read_definitions", lambda max_bytes: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            await queries.listed()
    assert not (await queries.listed()).is_truncated


async def test_client_receives_the_list(server: MahavishnuServer) -> None:
    async with connect(server) as client:
        answer = (await client.request("list_definitions"))["data"]
    assert list(answer) == ["definitions"]
    assert "demo_retry" in [each["name"] for each in answer["definitions"]]


async def test_list_counts_towards_the_budget_of_its_connection() -> None:
    limits = Limits(max_replay_burst_bytes=1, max_replay_bytes_per_second=1)
    connection: Any = SimpleNamespace(
        identity=EVERYONE, statuses=StatusQueries(limits), replay_budget=ReplayBudget(limits)
    )
    assert isinstance(await handlers.handle(connection, ListDefinitions()), handlers.Response)
    with pytest.raises(RequestError) as caught:
        await handlers.handle(connection, ListDefinitions())
    assert caught.value.code is ErrorCode.RATE_LIMIT_EXCEEDED
