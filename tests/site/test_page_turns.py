"""Requests for pages take turns: few at a time, one login at a time, and none for `/health`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mahavishnu_site.page_turns import MAX_CONCURRENT_PAGES, PageTurns


class Pages:
    """An application whose requests end when the test ends them.

    Attributes:
        running: The paths of the requests that have their turn, in order.
    """

    def __init__(self) -> None:
        self.running: list[str] = []
        self.turns = PageTurns(self._answer, without_turn=("/health",))
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def _answer(self, scope: Any, _receive: Any, _send: Any) -> None:
        self.running.append(scope["path"])
        try:
            await self._ends[scope["path"]].wait()
        finally:
            self.running.remove(scope["path"])

    async def request(self, path: str, method: str = "GET") -> None:
        self._ends[path] = asyncio.Event()
        scope = {"type": "http", "method": method, "path": path}
        self._tasks[path] = asyncio.create_task(self.turns(scope, _unused, _unused))
        await _settle()

    async def end(self, path: str) -> None:
        self._ends[path].set()
        await self._tasks[path]
        await _settle()

    async def disconnect(self, path: str) -> None:
        """Cancel a request, as daphne does after its client has left."""
        self._tasks[path].cancel()
        await _settle()


async def _unused(*_: Any) -> Any:
    raise AssertionError("the turns neither receive nor send")


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_pages_wait_in_order_and_health_does_not_wait() -> None:
    pages = Pages()
    paths = [f"/admin/{number}/" for number in range(MAX_CONCURRENT_PAGES + 3)]
    for path in paths:
        await pages.request(path)
    assert pages.running == paths[:MAX_CONCURRENT_PAGES]
    await pages.request("/prefix/health")
    assert "/prefix/health" in pages.running
    await pages.end("/prefix/health")
    # A client that leaves while it waits takes no turn.
    await pages.disconnect(paths[MAX_CONCURRENT_PAGES])
    await pages.end(paths[0])
    assert pages.running == [*paths[1:MAX_CONCURRENT_PAGES], paths[MAX_CONCURRENT_PAGES + 1]]
    # One that leaves during its turn passes it on.
    await pages.disconnect(paths[1])
    assert paths[MAX_CONCURRENT_PAGES + 2] in pages.running


@pytest.mark.parametrize("path_of", [lambda number: f"/{number}/admin/login/"], ids=["any prefix"])
async def test_one_login_at_a_time_delays_no_page(path_of: Callable[[int], str]) -> None:
    pages = Pages()
    for number in range(3):
        await pages.request(path_of(number), "POST")
    await pages.request("/admin/login/")
    assert pages.running == [path_of(0), "/admin/login/"]
    await pages.end(path_of(0))
    assert pages.running == ["/admin/login/", path_of(1)]
