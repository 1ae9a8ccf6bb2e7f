"""The servers of the cases: a daphne with its database, and the scripted one."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Iterable
from typing import Any

from mahavishnu_client.testing import FakeServer
from tests.harness.client import wait_for_relay
from tests.harness.server import MahavishnuServer

STAGES = ["one", "two", "three"]

_FAKE_METHODS = {
    "answer_subscribe_with": "fail_subscribes",
    "discard": "discard_messages",
    "refuse": "refuse_connections",
}


class Backend:
    """What a case needs of its server, real or fake."""

    url: str
    port: int

    def emit(self, channel: str) -> None:
        """Cause one event in this channel and in `global`."""
        raise NotImplementedError

    def accept(self, token: str, permissions: list[str], *, seconds: float) -> None:
        """Accept a token, which the case names so, for some time."""
        raise NotImplementedError

    def token(self, name: str) -> str:
        """Return the text of a token."""
        return name

    def expire(self, token: str) -> None:
        """Accept a token no longer."""
        raise NotImplementedError

    def announce_expiry(self) -> None:
        """Announce the end of the tokens, if the server does not by itself."""

    def wait_refresh(self, count: int) -> None:
        """Return when that many clients have a new token."""
        raise NotImplementedError


class RealBackend(Backend):
    """A daphne with a database."""

    def __init__(self, server: MahavishnuServer) -> None:
        self.server = server
        self.url, self.port = server.ws_url, server.port
        self._drained: set[str] = set()
        self._completed = itertools.count()

    @property
    def connect_options(self) -> dict[str, Any]:
        """Arguments for the connections of the test."""
        return {}

    def prepare(self, channels: Iterable[str]) -> None:
        self.server.ensure_running()
        for channel in sorted(channels):
            kind, _, resource_id = channel.partition(":")
            if kind == "pool":
                self.server.services.create_pool(pool_id=resource_id)
        newest = self.server.services_driver.execute(
            "from realtime.models import Event\nresult = Event.objects.count()"
        )
        # Otherwise a client may start before the events of the pools.
        asyncio.run(wait_for_relay(self.server, newest, **self.connect_options))

    def emit(self, channel: str) -> None:
        pool_id = channel.removeprefix("pool:")
        if pool_id in self._drained:
            self._drained.discard(pool_id)
            self.server.services.reopen_pool(pool_id=pool_id)
        else:
            self._drained.add(pool_id)
            self.server.services.drain_pool(pool_id=pool_id)

    def run(self, change: str, workflow_id: str) -> None:
        services = self.server.services
        if change == "create":
            services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=STAGES)
        elif change == "start":
            services.start_workflow(workflow_id=workflow_id)
        else:
            stage_name = STAGES[next(self._completed)]
            services.start_stage(workflow_id=workflow_id, stage_name=stage_name)
            services.complete_stage(workflow_id=workflow_id, stage_name=stage_name)

    def do(self, action: str) -> None:
        if action in ("freeze", "thaw"):
            self.server.signal(signal.SIGSTOP if action == "freeze" else signal.SIGCONT)
        elif action == "stop":
            self.server.terminate()
        else:
            getattr(self.server, action)()


class FakeBackend(Backend):
    """The scripted server."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.url, self.port = server.url, server.port

    def accept(self, token: str, permissions: list[str], *, seconds: float) -> None:
        self.server.accept(token, permissions=permissions)

    def expire(self, token: str) -> None:
        self.server.expire(token)

    def announce_expiry(self) -> None:
        self.server.announce_expiry()

    def wait_refresh(self, count: int) -> None:
        self.server.wait_request("refresh_token", count=count)

    def emit(self, channel: str) -> None:
        kind, _, resource_id = channel.partition(":")
        if kind == "pool":
            self.server.emit("pool.drained", {"pool_id": resource_id})
        else:
            data = {"workflow_id": resource_id, "stage_name": "s", "message": "A line"}
            self.server.emit("workflow.stage_log", data)

    def do(self, action: str, arguments: Any) -> None:
        server = self.server
        if action == "state":
            server.create_workflow(arguments.removeprefix("workflow:"), stages=STAGES)
        elif action == "wait_held":
            server.wait_request("get_pool_status", count=arguments)
        elif action == "wait_request":
            server.wait_request(arguments)
        elif action == "max_replay_events":
            server.limit_replays(arguments)
        elif action == "send":
            server.send(arguments)
        else:
            methods = {
                "answer_subscribe_with": "fail_subscribes",
                "discard": "discard_messages",
                "refuse": "refuse_connections",
            }
            getattr(server, methods.get(action, action))(**arguments)
