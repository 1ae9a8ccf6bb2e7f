"""A fake server for tests: a real WebSocket on a free port, with states and events that the test makes up."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Self, TypeVar

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from mahavishnu_client.testing.access import Access, select_subprotocol, time_in
from mahavishnu_client.testing.connection import FakeConnection
from mahavishnu_client.testing.log import FakeLog
from mahavishnu_client.testing.script import Script
from mahavishnu_client.testing.scripted_server import ScriptedServer

HOST = "127.0.0.1"
TIMEOUT_SECONDS = 10.0

_END_INTERVAL_SECONDS = 0.05

T = TypeVar("T")


def _connection_type(accepted: set[ServerConnection]) -> type[ServerConnection]:
    """Return a type whose connections are in `accepted`: also during the handshake, which may never end."""

    class Connection(ServerConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            accepted.add(self)

        def connection_lost(self, exc: Exception | None) -> None:
            accepted.discard(self)
            super().connection_lost(exc)

    return Connection


class FakeServer(ScriptedServer):
    """A server in its own thread. Every method may be called in any thread, and returns when it is done.

    `with FakeServer() as server:` starts it. It answers `subscribe` with snapshots and replays, as the real one does,
    `get_workflow`, `get_workflow_status` and `get_pool_status` from its states, and other requests as `respond` says.

    Args:
        require_token: Accept this token, which may read everything, and no client without one.
        tokens: Accept these tokens, with the permissions of each, such as `pool:read:reports`. Without both, a client
            needs no token, and one that has a token is refused.
    """

    def __init__(self, *, require_token: str | None = None, tokens: Mapping[str, Iterable[str]] | None = None) -> None:
        self._access = Access.of(require_token, tokens)
        self._log = FakeLog()
        self._script = Script()
        self._connections: list[FakeConnection] = []
        self._accepted: set[ServerConnection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-server", daemon=True)
        self._server: Server | None = None
        self._requested = threading.Condition()
        self._script.on_request = self._on_request
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_SECONDS)
        self._loop.close()

    @property
    def url(self) -> str:
        """The URL for `connect`."""
        return f"ws://{HOST}:{self.port}"

    @property
    def requests(self) -> list[tuple[str, dict[str, Any]]]:
        """Every request so far: its name and its data."""
        return list(self._script.requests)

    # --- States, events and answers ----------------------------------------------------------------------------

    def create_workflow(self, workflow_id: str, *, stages: list[str], **fields: Any) -> int:
        """Create a run of these stages, and send `workflow.created`. Return its position.

        Args:
            workflow_id: Its id.
            stages: Its stages, one step each.
            fields: Other fields of the event, such as `name` and `pool_id`.
        """
        plan = [{"stage_name": name, "step": step, "last_attempt": 1} for step, name in enumerate(stages)]
        default: dict[str, Any] = {
            "adapter": "python",
            "prompt": "",
            "name": "",
            "pool_id": None,
            "params": {},
            "deadline_at": None,
        }
        data = {"workflow_id": workflow_id, **default, **fields, "total_stages": len(stages), "stages": plan}
        return self.emit("workflow.created", data)

    def set_state(self, channel: str, snapshot: dict[str, Any]) -> None:
        """Set the state of a channel, with the fields of its snapshot. No event is sent."""
        self._do(lambda: self._log.set_state(channel, snapshot))

    def emit(self, name: str, data: dict[str, Any], *, channels: tuple[str, ...] = ()) -> int:
        """Send an event to its channels, fold it into their states, and return its position.

        Args:
            name: Its name.
            data: Its data; `timestamp` may be left out.
            channels: Its channels besides `global`; else those of the ids in its data.
        """

        def emit() -> int:
            event = self._log.append(name, data, channels=channels)
            for connection in self._connections:
                connection.deliver(event)
            return event.seq

        return self._do(emit)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to every client, as it is."""

        def send() -> None:
            for connection in self._connections:
                connection.send(**message)

        self._do(send)

    def wait_request(self, name: str, *, count: int = 1, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Return when that many requests of this name have come.

        Raises:
            TimeoutError: if they have not in time.
        """
        with self._requested:
            if not self._requested.wait_for(
                lambda: sum(name == requested for requested, _ in self._script.requests) >= count, timeout_seconds
            ):
                raise TimeoutError(f"No {name} within {timeout_seconds:g} s")

    # --- Tokens ------------------------------------------------------------------------------------------------

    def accept(self, token: str, *, permissions: Iterable[str] = ("admin",)) -> None:
        """Accept a token from now on, with these permissions, and no client without one."""
        self._do(lambda: self._access.accept(token, permissions))

    def announce_expiry(self, *, expires_in_ms: int = 10_000) -> None:
        """Send `session.expiring` to every client."""
        data = {"expires_in_ms": expires_in_ms, "expires_at": time_in(expires_in_ms / 1000)}
        self.send({"type": "event", "event": "session.expiring", "data": data})

    def expire(self, token: str) -> None:
        """Accept a token no longer, and end the connections with it: it has expired, or was revoked."""

        async def expire() -> None:
            if self._access.tokens is not None:
                self._access.tokens.pop(token, None)
            for connection in list(self._connections):
                if connection.token == token and (error := self._access.refusal(token)) is not None:
                    await connection.refuse(error)

        self._run(expire())

    def forbid(self, channel: str) -> None:
        """Refuse a channel to every client, and end the subscriptions of it."""

        def forbid() -> None:
            self._access.forbidden.add(channel)
            for connection in self._connections:
                connection.end_forbidden()

        self._do(forbid)

    # --- Faults ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen, on the same port as before."""

        async def start() -> None:
            self._server = await serve(
                self._serve,
                HOST,
                self.port,
                create_connection=_connection_type(self._accepted),
                process_request=self._next_handshake,
                select_subprotocol=select_subprotocol,
                ping_interval=None,
                max_size=None,
            )
            self.port = next(iter(self._server.sockets)).getsockname()[1]

        self._run(start())

    def stop(self) -> None:
        """End every connection, and refuse new ones."""

        async def stop() -> None:
            self._abort()
            if self._server is not None:
                self._server.close()
                await self._server.wait_closed()
                self._server = None

        self._run(stop())

    def drop(self) -> None:
        """End every connection, as a network does that fails."""
        self._do(self._abort)

    def close(self, code: int, error_code: str, **error: Any) -> None:
        """Send an error to every client, and close its connection."""
        message = {"type": "error", "event": "error", "error_code": error_code, "error_message": "Closed by the test"}

        async def close() -> None:
            for connection in list(self._connections):
                connection.send(**message, **error)
                await connection.websocket.close(code, error_code)

        self._run(close())

    def drain(self, *, retry_after_ms: int) -> None:
        """Announce a restart, and close every connection."""

        async def drain() -> None:
            for connection in list(self._connections):
                data = {"retry_after_ms": retry_after_ms, "message": "This server is stopping"}
                connection.send(type="event", event="session.draining", data=data)
                await connection.websocket.close(1012, "DRAINING")

        self._run(drain())

    def trim(self) -> None:
        """Prune every event of the log."""
        self._do(self._log.trim)

    def renew_epoch(self) -> None:
        """Replace the log by an empty one, as after a backup was restored."""
        self._do(self._log.renew_epoch)

    # --- In the thread of the server ---------------------------------------------------------------------------

    def _next_handshake(self, websocket: ServerConnection, _: Request) -> Response | None:
        if not self._script.handshakes:
            return None
        status, retry_after_seconds = self._script.handshakes.popleft()
        response = websocket.respond(HTTPStatus(status), "Refused by the test\n")
        if retry_after_seconds is not None:
            response.headers["Retry-After"] = str(retry_after_seconds)
        return response

    async def _serve(self, websocket: ServerConnection) -> None:
        connection = FakeConnection(websocket, self._log, self._script, self._access)
        self._connections.append(connection)
        try:
            with contextlib.suppress(ConnectionClosed):
                await connection.serve()
        finally:
            self._connections.remove(connection)

    def _abort(self) -> None:
        for connection in self._accepted:
            connection.transport.abort()

    async def _end(self) -> None:
        """Wait for what still runs here. A client may have connected while the server stopped."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
                self._abort()
                await asyncio.wait(tasks, timeout=_END_INTERVAL_SECONDS)

    def _on_request(self, name: str, data: dict[str, Any]) -> None:
        with self._requested:
            self._script.requests.append((name, data))
            self._requested.notify_all()

    def _do(self, function: Callable[[], T]) -> T:
        async def do() -> T:
            return function()

        return self._run(do())

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT_SECONDS)
