"""Tokens of the Python client: where they go, when a new one is requested, and that none is shown."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import traceback

import pytest

from mahavishnu_client import AuthenticationError, ConnectionState, Forbidden, Options, connect, sync
from mahavishnu_client.testing import FakeServer

WITHIN_SECONDS = 10
QUICK = Options(first_retry_seconds=0.01, max_retry_seconds=0.05)
SECRET = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl"


class TokenFunction:
    """A function that returns each token once, then the last one, and counts its calls."""

    def __init__(self, *tokens: str | Exception) -> None:
        self._tokens = list(tokens)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        token = self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]
        if isinstance(token, Exception):
            raise token
        return token


class States:
    """The states of a client, as it reports them."""

    def __init__(self) -> None:
        self._seen: asyncio.Queue[ConnectionState] = asyncio.Queue()
        self.on_state = self._seen.put_nowait

    async def until(self, state: str) -> None:
        """Return when the client has this state, and forget the earlier ones."""
        while await self._seen.get() != state:
            pass


async def test_client_ends_after_one_more_token_of_its_function() -> None:
    function = TokenFunction("old", "older")
    with FakeServer(require_token=SECRET) as server:
        async with (
            asyncio.timeout(WITHIN_SECONDS),
            connect(server.url, token=function, options=QUICK, proxy=None) as client,
        ):
            runs, events = client.follow("wf_1"), client.events("global")
            for wait in (client.wait_live(), client.get_pool_status("a"), anext(runs), anext(events)):
                with pytest.raises(AuthenticationError, match="AUTH_FAILED: The token is invalid or expired") as caught:
                    await wait
                assert caught.value.code == "AUTH_FAILED"
            with pytest.raises(AuthenticationError):
                client.events("global")
            assert (client.state, function.calls) == ("closed", 2)
            assert isinstance(client.last_error, AuthenticationError)


@pytest.mark.parametrize(("stable_after_seconds", "calls"), [(0.0, 4), (10.0, 2)])
async def test_each_expiry_of_a_stable_connection_gets_one_new_token(stable_after_seconds: float, calls: int) -> None:
    # A server that accepts each token for a moment only must not be asked for ever.
    function, states = TokenFunction("1", "2", "3", "4"), States()
    options = Options(first_retry_seconds=0.01, stable_after_seconds=stable_after_seconds)
    with FakeServer(tokens={token: ["admin"] for token in "1234"}) as server:
        async with (
            asyncio.timeout(WITHIN_SECONDS),
            connect(server.url, token=function, on_state=states.on_state, options=options, proxy=None),
        ):
            for token in "1234"[: calls - 1]:
                await states.until("live")
                await asyncio.to_thread(server.expire, token)
            await states.until("live")
            if calls == 2:
                await asyncio.to_thread(server.expire, "2")
                await states.until("closed")
    assert function.calls == calls


async def test_function_that_fails_is_called_again_after_a_pause(caplog: pytest.LogCaptureFixture) -> None:
    function = TokenFunction(RuntimeError(f"no answer for {SECRET}"), ValueError(), "two words", f" {SECRET}\n")
    with FakeServer(require_token=SECRET) as server:
        async with (
            asyncio.timeout(WITHIN_SECONDS),
            connect(server.url, token=function, options=QUICK, proxy=None) as client,
        ):
            await client.wait_live()
            assert "expected letters" in str(client.last_error)
    assert function.calls == 4
    assert "The token function failed: RuntimeError" in caplog.text
    assert SECRET not in caplog.text and "two words" not in caplog.text


async def test_slow_function_delays_nothing_else() -> None:
    loop, began, may_return = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def read_token() -> str:
        loop.call_soon_threadsafe(began.set)
        assert may_return.wait(WITHIN_SECONDS)
        return SECRET

    with FakeServer(require_token=SECRET) as server:
        async with asyncio.timeout(WITHIN_SECONDS), connect(server.url, token=read_token, proxy=None) as client:
            await began.wait()
            assert client.state == "connecting"
            may_return.set()
            await client.wait_live()


async def test_refresh_is_repeated_with_a_function_that_fails() -> None:
    # The second answer is no new token, and the first message with the new one is discarded.
    function = TokenFunction("one", "one", RuntimeError(), "two")
    with FakeServer(tokens={"one": ["admin"], "two": ["admin"]}) as server:
        async with (
            asyncio.timeout(WITHIN_SECONDS),
            connect(server.url, token=function, options=QUICK, proxy=None) as client,
        ):
            await client.wait_live()
            await asyncio.to_thread(server.discard_messages, times=1, retry_after_ms=10)
            for _ in range(2):
                await asyncio.to_thread(server.announce_expiry)
            await asyncio.to_thread(server.wait_request, "refresh_token")
            await asyncio.to_thread(server.expire, "one")
            assert await client.request("subscribe", {"channel": "global"})
            assert client.last_error is None
    assert (function.calls, server.requests[0]) == (4, ("refresh_token", {"token": "two"}))


async def test_new_token_that_is_refused_over_the_connection_ends_it() -> None:
    function, states = TokenFunction("one", "gone", "two"), States()
    with FakeServer(tokens={"one": ["admin"], "two": ["admin"]}) as server:
        async with (
            asyncio.timeout(WITHIN_SECONDS),
            connect(server.url, token=function, on_state=states.on_state, options=QUICK, proxy=None),
        ):
            await states.until("live")
            await asyncio.to_thread(server.announce_expiry)
            await states.until("offline")
            await states.until("live")
    assert function.calls == 3


async def test_text_is_not_sent_again_before_it_expires() -> None:
    with FakeServer(require_token=SECRET) as server:
        async with asyncio.timeout(WITHIN_SECONDS), connect(server.url, token=SECRET, proxy=None) as client:
            await client.wait_live()
            await asyncio.to_thread(server.announce_expiry)
            await client.request("subscribe", {"channel": "global"})
    assert [name for name, _ in server.requests] == ["subscribe"]


async def test_forbidden_channel_ends_and_the_others_continue() -> None:
    with FakeServer(tokens={SECRET: ["pool:read:a*", "workflow:read"]}) as server:
        server.create_workflow("wf_1", stages=["one"])
        async with asyncio.timeout(WITHIN_SECONDS), connect(server.url, token=SECRET, proxy=None) as client:
            with pytest.raises(Forbidden, match="FORBIDDEN: No permission to read pool:b"):
                await client.subscribe_to_channel("pool:b")
            with pytest.raises(Forbidden, match=r"No permission to read pool$"):
                await client.list_pools()
            with pytest.raises(Forbidden):
                await anext(client.overview())
            runs, events = client.follow("wf_1"), await client.subscribe_to_channel("pool:a1")
            assert (await anext(runs)).status == "pending"
            await asyncio.to_thread(server.forbid, "workflow:wf_1")
            with pytest.raises(Forbidden, match="ended the subscription of workflow:wf_1: forbidden"):
                await anext(runs)
            await asyncio.to_thread(server.emit, "pool.drained", {"pool_id": "a1"})
            assert (await anext(events)).seq == 2
            with pytest.raises(Forbidden):
                await anext(client.follow("wf_1"))
            assert client.state == "live"


async def test_too_many_failures_are_waited_for() -> None:
    with FakeServer() as server:
        server.refuse_handshakes(times=1, status=429, retry_after_seconds=1)
        began_at = time.monotonic()
        async with asyncio.timeout(WITHIN_SECONDS), connect(server.url, options=QUICK, proxy=None) as client:
            await client.wait_live()
    assert time.monotonic() - began_at >= 1


@pytest.mark.parametrize("is_function", [True, False])
async def test_no_token_is_shown(is_function: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    function = TokenFunction(SECRET, f"{SECRET}2")
    with FakeServer(tokens={SECRET: ["admin"], f"{SECRET}2": ["admin"]}) as server:
        async with (
            asyncio.timeout(WITHIN_SECONDS),
            connect(server.url, token=function if is_function else SECRET, options=QUICK, proxy=None) as client,
        ):
            await client.wait_live()
            await asyncio.to_thread(server.announce_expiry)
            if is_function:
                await asyncio.to_thread(server.wait_request, "refresh_token")
            await client.request("subscribe", {"channel": "global"})
            shown = repr(vars(client)) + repr(vars(client._open)) + repr(vars(client._session))
            events = client.events("global")
            for token in (SECRET, f"{SECRET}2"):
                await asyncio.to_thread(server.expire, token)
            with pytest.raises(AuthenticationError) as caught:
                await anext(events)
            shown += "".join(traceback.format_exception(caught.value)) + repr(client.last_error)
    assert SECRET not in shown
    # The fake server is the user's own, and shows what it receives.
    records = [record for record in caplog.records if not record.name.startswith("websockets.server")]
    assert records
    assert not any(SECRET in record.getMessage() for record in records)


@pytest.mark.parametrize(
    "url",
    [f"ws://h/?token={SECRET}", f"ws://h/?a=b&access_token={SECRET}", f"h#Token={SECRET}", f"ws://h?key={SECRET}"],
)
def test_url_with_a_token_is_rejected_by_connect(url: str) -> None:
    with pytest.raises(ValueError, match="A URL must not contain a token") as caught:
        connect(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("token", ["", "two words", f"{SECRET}\r\nX-Header: 1", "é", 5])
def test_invalid_token_is_rejected_by_connect_and_not_shown(token: object) -> None:
    with pytest.raises(ValueError, match=r"^Invalid token: expected [a-z]+") as caught:
        connect("ws://127.0.0.1:8690", token=token)  # type: ignore[arg-type]
    assert not token or str(token) not in str(caught.value)


def test_two_credentials_are_rejected_by_connect() -> None:
    with pytest.raises(ValueError, match="but not both"):
        connect("ws://user:password@127.0.0.1:8690", token=SECRET)
    with pytest.raises(ValueError, match="but not both"):
        connect("ws://127.0.0.1:8690", token=SECRET, additional_headers={"authorization": "Basic Zm9v"})


def test_client_without_asyncio_has_tokens_too() -> None:
    function = TokenFunction(SECRET, "gone")
    with (
        FakeServer(tokens={SECRET: ["pool:read:a"]}) as server,
        sync.connect(server.url, token=function, options=QUICK, proxy=None) as client,
    ):
        events = client.events("pool:a")
        client.wait_live(WITHIN_SECONDS)
        with pytest.raises(sync.Forbidden):
            client.get_pool_status("b")
        server.emit("pool.drained", {"pool_id": "a"})
        assert next(events).seq == 1
        server.expire(SECRET)
        with pytest.raises(sync.AuthenticationError):
            next(events)
        assert client.state == "closed"
        with pytest.raises(sync.AuthenticationError):
            client.get_pool_status("a")
