"""One connection of the fake server: what it answers."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast

from mahavishnu_client.testing.access import Access, token_of
from mahavishnu_client.testing.log import FakeLog, LoggedEvent
from mahavishnu_client.testing.script import Script

_is_channel = re.compile(r"global|summary|(workflow|pool|worker):[A-Za-z0-9._-]{1,128}").fullmatch
_MAX_SUBSCRIPTIONS = 128


class FakeConnection:
    """A client of the fake server.

    Args:
        websocket: Its WebSocket.
        log: The events and states.
        script: What the test wants to happen.
        access: Who may connect, and read what.

    Attributes:
        token: The token of the client; None if it has none.
    """

    def __init__(self, websocket: ServerConnection, log: FakeLog, script: Script, access: Access) -> None:
        self.websocket = websocket
        self.token = token_of(websocket)
        self._access = access
        self._log = log
        self._script = script
        self._channels: set[str] = set()

    def send(self, **fields: Any) -> None:
        """Send one message, without waiting for the client."""
        if not self._script.is_frozen:
            now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            broadcast([self.websocket], json.dumps({"id": str(uuid.uuid4()), "data": {}, "timestamp": now, **fields}))

    def deliver(self, event: LoggedEvent) -> None:
        """Send an event in each of its channels that the client is subscribed to."""
        for room in event.rooms:
            if room in self._channels:
                self.send(**event.message(room))

    async def serve(self) -> None:
        """Answer the client until it leaves."""
        if (refusal := self._script.next_refusal()) is not None:
            self.send(type="error", event="error", error_message="Refused by the test", **refusal.error_fields)
            await self.websocket.close(refusal.close_code, refusal.error_fields["error_code"])
            return
        if (error := self._access.refusal(self.token)) is not None:
            await self.refuse(error)
            return
        self.send(type="event", event="session.created", data=self._welcome())
        async for text in self.websocket:
            message = json.loads(text)
            if (error := self._script.next_discard()) is not None:
                self.send(type="error", event="error", error_message="Discarded by the test", **error)
            elif message["type"] == "ping":
                data = {"seq": self._log.seq, "epoch": self._log.epoch} if self._channels else {}
                self.send(type="pong", event="pong", data=data, correlation_id=message.get("id"))
            else:
                self._answer(message)
                if (error := self._access.refusal(self.token)) is not None:
                    await self.websocket.close(1008, error["error_code"])
                    return

    async def refuse(self, error: dict[str, Any]) -> None:
        """Send an error about the token, and close the connection."""
        self.send(type="error", event="error", **error)
        await self.websocket.close(1008, error["error_code"])

    def end_forbidden(self) -> None:
        """End the subscriptions that the client has no permission for any longer."""
        for channel in sorted(self._channels):
            if not self._access.may_read(self.token, channel):
                self._channels.discard(channel)
                data = {"channel": channel, "reason": "forbidden"}
                self.send(type="event", event="session.unsubscribed", data=data)

    def _welcome(self) -> dict[str, Any]:
        return {
            "connection_id": str(uuid.uuid4()),
            "epoch": self._log.epoch,
            "seq": self._log.seq,
            "server": "mahavishnu",
            "message": "Connected to a fake server",
            "server_version": "1.0.0",
            "protocol_version": 1,
            "ping_after_ms": 10_000,
            "limits": self._script.limits,
        }

    def _answer(self, message: dict[str, Any]) -> None:
        name, data, request_id = message["event"], message.get("data", {}), message.get("id")
        self._script.on_request(name, data)

        def respond(response: dict[str, Any]) -> None:
            self.send(type="response", event=name, data=response, correlation_id=request_id)

        def fail(**error: Any) -> None:
            self.send(type="error", event=name, correlation_id=request_id, **error)

        if self._script.is_holding_answers:
            return
        if name == "refresh_token":
            self._refresh(data, respond, fail)
            return
        is_known = name != "subscribe" or _is_channel(data["channel"])
        if is_known and (resource := self._access.forbids(self.token, name, data)) is not None:
            fail(error_code="FORBIDDEN", error_message=f"No permission to read {resource}", retryable=False)
        elif name == "subscribe":
            self._subscribe(data, respond, fail)
        elif name == "unsubscribe":
            self._channels.discard(data["channel"])
            respond({"channel": data["channel"], "status": "unsubscribed"})
        elif (answer := self._script.answer_to(name, data)) is not None or (
            answer := self._stored_answer(name, data)
        ) is not None:
            respond(answer)
        else:
            fail(error_code="NOT_FOUND", error_message="The test has set no such state", retryable=False)

    def _refresh(
        self, data: dict[str, Any], respond: Callable[[dict[str, Any]], None], fail: Callable[..., None]
    ) -> None:
        self.token = data["token"]
        if (error := self._access.refusal(self.token)) is not None:
            fail(**error)
            return
        respond(self._access.answer(data["token"]))
        self.end_forbidden()

    def _subscribe(
        self, data: dict[str, Any], respond: Callable[[dict[str, Any]], None], fail: Callable[..., None]
    ) -> None:
        channel, since, log = data["channel"], data.get("since"), self._log
        if not _is_channel(channel):
            fail(error_code="INVALID_CHANNEL", error_message=f"Invalid channel name {channel!r}", retryable=False)
            return
        if channel not in self._channels and len(self._channels) >= _MAX_SUBSCRIPTIONS:
            message = f"This connection has {_MAX_SUBSCRIPTIONS} subscriptions, the most allowed"
            fail(error_code="TOO_MANY_SUBSCRIPTIONS", error_message=message, retryable=False)
            return
        if (error := self._script.next_subscribe_error()) is not None:
            if error["error_code"] != "RATE_LIMIT_EXCEEDED":
                self._channels.discard(channel)
            fail(error_message="Rejected by the test", **error)
            return
        answer: dict[str, Any] = {"channel": channel, "status": "subscribed"}
        missed: list[LoggedEvent] = []
        if since is not None or data.get("snapshot"):
            answer |= {"seq": log.seq, "epoch": log.epoch}
        if since is not None:
            missed = log.missed(channel, since=since)
            reason = self._unrecoverable_reason(since, data.get("epoch"), len(missed))
            missed = [] if reason else missed
            answer |= {"recovered": reason is None, "missed": len(missed), **({"reason": reason} if reason else {})}
        if data.get("snapshot"):
            answer["snapshot"] = log.snapshot(channel)
        self._channels.add(channel)
        respond(answer)
        for event in missed:
            self.send(**event.message(channel, replay=True))

    def _unrecoverable_reason(self, since: int, epoch: str | None, missed_count: int) -> str | None:
        log = self._log
        if epoch is not None and epoch != log.epoch:
            return "epoch"
        if since > log.seq:
            return "ahead"
        if since < log.trimmed_seq:
            return "trimmed"
        return "limit" if missed_count > self._script.max_replay_events else None

    def _stored_answer(self, name: str, data: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer of a request about one resource, from its state."""
        kinds = {"get_workflow": "workflow", "get_workflow_status": "workflow", "get_pool_status": "pool"}
        if name not in kinds:
            return None
        snapshot = self._log.snapshot(f"{kinds[name]}:{data[f'{kinds[name]}_id']}")
        if snapshot is None:
            return None
        if name == "get_workflow":
            position = {"seq": self._log.seq, "epoch": self._log.epoch}
            return {"workflow_id": data["workflow_id"], **position, "workflow": snapshot}
        if name == "get_pool_status":
            workers = [worker["worker_id"] for worker in snapshot["workers"]]
            return {"pool_id": snapshot["pool_id"], "status": snapshot["status"], "workers": workers}
        return {key: snapshot[key] for key in ("workflow_id", "status", "stages_completed", "total_stages")}
