"""Requests for pages take turns: few at a time, one login at a time, and none for `/health`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mahavishnu_site import page_turns
from mahavishnu_site.page_turns import (
    MAX_CONCURRENT_ADMIN_PAGES,
    MAX_CONCURRENT_API_REQUESTS,
    MAX_CONCURRENT_OTHER_PAGES,
    MAX_CONCURRENT_STATIC_FILES,
    MAX_WAITING_REQUESTS,
    PageTurns,
)

LOGIN = "/prefix/admin/login/"
PAGES_LOGIN = "/prefix/login"


class Request:
    """One request: what its client sends and receives."""

    def __init__(self, path: str, method: str = "GET") -> None:
        self.scope = {"type": "http", "method": method, "path": path}
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent.put_nowait({"type": "http.request", "body": path.encode(), "more_body": False})
        self.answer: list[dict[str, Any]] = []
        self.may_end = asyncio.Event()

    async def send(self, message: Any) -> None:
        self.answer.append(message)

    async def disconnect(self) -> None:
        self.sent.put_nowait({"type": "http.disconnect"})
        await settled()


class Site:
    """An application whose requests end when the test ends them.

    Attributes:
        running: The paths of the requests that have their turn, in order.
    """

    def __init__(self) -> None:
        self.running: list[str] = []
        self._turns = PageTurns(self._answer, prefix="/prefix")
        self._tasks: dict[Request, asyncio.Task[None]] = {}
        self._by_path: dict[str, Request] = {}

    async def _answer(self, scope: Any, receive: Any, _send: Any) -> None:
        self.running.append(scope["path"])
        try:
            assert (await receive())["body"] == scope["path"].encode()
            await self._by_path[scope["path"]].may_end.wait()
        finally:
            self.running.remove(scope["path"])

    async def request(self, path: str, method: str = "GET") -> Request:
        request = self._by_path[path] = Request(path, method)
        self._tasks[request] = asyncio.create_task(self._turns(request.scope, request.sent.get, request.send))
        await settled()
        return request

    async def end(self, request: Request) -> None:
        request.may_end.set()
        await self._tasks[request]
        await settled()

    async def cancel(self, request: Request) -> None:
        self._tasks[request].cancel()
        await settled()

    def has_ended(self, request: Request) -> bool:
        return self._tasks[request].done()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("folder", "turns"),
    [
        ("/prefix/admin", MAX_CONCURRENT_ADMIN_PAGES),
        ("/prefix", MAX_CONCURRENT_OTHER_PAGES),
        ("/prefix/static", MAX_CONCURRENT_STATIC_FILES),
        ("/prefix/api/v1", MAX_CONCURRENT_API_REQUESTS),
    ],
)
async def test_pages_wait_in_order(folder: str, turns: int) -> None:
    site = Site()
    requests = [await site.request(f"{folder}/{number}/health") for number in range(turns + 3)]
    paths = [request.scope["path"] for request in requests]
    assert site.running == paths[:turns]
    await site.request("/prefix/health")
    assert site.running == [*paths[:turns], "/prefix/health"]
    # One that is cancelled while it waits takes no turn. One that is cancelled during its turn passes it on.
    await site.cancel(requests[turns])
    await site.cancel(requests[0])
    assert site.running == [*paths[1:turns], "/prefix/health", paths[turns + 1]]
    await site.end(requests[turns + 1])
    assert site.running == [*paths[1:turns], "/prefix/health", paths[turns + 2]]


async def test_client_that_leaves_ends_its_waiting_request() -> None:
    site = Site()
    requests = [await site.request(f"/prefix/{number}") for number in range(MAX_CONCURRENT_OTHER_PAGES + 2)]
    await requests[-2].disconnect()
    assert site.has_ended(requests[-2])
    assert requests[-2].answer == []
    await site.end(requests[0])
    running = (*requests[1:MAX_CONCURRENT_OTHER_PAGES], requests[-1])
    assert site.running == [request.scope["path"] for request in running]


async def test_requests_that_wait_are_bounded_in_number() -> None:
    site = Site()
    fit = MAX_CONCURRENT_OTHER_PAGES + MAX_WAITING_REQUESTS
    requests = [await site.request(f"/prefix/{number}") for number in range(fit + 1)]
    start, body = requests[-1].answer
    assert dict(start["headers"]).items() >= {(b"retry-after", b"5"), (b"x-content-type-options", b"nosniff")}
    assert (start["status"], body["body"]) == (503, b"Too many requests wait for a page. Try again in 5 seconds.\n")
    assert [request.answer for request in requests[:-1]] == [[]] * (len(requests) - 1)
    # A place is free again.
    await requests[-2].disconnect()
    assert (await site.request("/prefix/next")).answer == []


async def test_request_that_waits_too_long_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_turns, "MAX_WAIT_SECONDS", 0.0)
    site = Site()
    requests = [await site.request(f"/prefix/{number}") for number in range(MAX_CONCURRENT_OTHER_PAGES + 1)]
    assert requests[-1].answer[0]["status"] == 503
    await site.end(requests[0])
    assert site.running == [request.scope["path"] for request in requests[1:MAX_CONCURRENT_OTHER_PAGES]]


@pytest.mark.parametrize("method", ["POST", "post"])
async def test_one_login_at_a_time_delays_no_page(method: str) -> None:
    site = Site()
    first = await site.request(LOGIN, method)
    await site.request(PAGES_LOGIN, method)
    assert site.running == [LOGIN]
    await site.request("/prefix/admin/")
    assert site.running == [LOGIN, "/prefix/admin/"]
    first.may_end.set()
    await settled()
    # The second login has its turn now.
    assert site.running == ["/prefix/admin/", PAGES_LOGIN]


@pytest.mark.parametrize(("path", "ends_turn"), [("/prefix/api/v1/stream", True), ("/prefix/stream", False)])
async def test_answer_of_the_api_in_parts_has_its_turn_until_the_first_part(path: str, ends_turn: bool) -> None:
    waiting = asyncio.Event()
    running: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        running.append(scope["path"])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        await waiting.wait()
        await send({"type": "http.response.body"})

    turns = PageTurns(application, prefix="/prefix")
    requests = [Request(path) for _ in range(MAX_CONCURRENT_API_REQUESTS + 1)]
    tasks = [asyncio.create_task(turns(each.scope, each.sent.get, each.send)) for each in requests]
    await settled()
    assert len(running) == (len(requests) if ends_turn else MAX_CONCURRENT_OTHER_PAGES)
    waiting.set()
    await asyncio.gather(*tasks)
    assert running == [path] * len(requests)
    assert requests[0].answer[-1] == {"type": "http.response.body"}
