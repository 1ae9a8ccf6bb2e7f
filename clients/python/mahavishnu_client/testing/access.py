"""Who may connect to the fake server, and what they may read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.typing import Subprotocol

SUBPROTOCOL = Subprotocol("mahavishnu.v1")
LIFETIME_SECONDS = 3600
"""The lifetime in the answers. A token expires when the test calls `expire`."""

_ANYTHING = ("admin",)
_TOKEN_PREFIX = "bearer."

_RESOURCES = {
    "get_workflow": "workflow",
    "get_workflow_status": "workflow",
    "list_stages": "workflow",
    "get_stage_result": "workflow",
    "get_pool_status": "pool",
    "get_pool_history": "pool",
}
_LISTS = {
    "list_workflows": "workflow",
    "list_definitions": "workflow",
    "list_pools": "pool",
    "list_workers": "worker",
    "list_waits": "workflow",
    "get_server_status": "metrics",
}


@dataclass
class Access:
    """The tokens of the fake server.

    Attributes:
        tokens: The permissions of each token that is accepted; None if no token is required.
        forbidden: Channels that no client may read.
    """

    tokens: dict[str, tuple[str, ...]] | None = None
    forbidden: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, require_token: str | None, tokens: Mapping[str, Iterable[str]] | None) -> Access:
        """Return the access that the arguments of `FakeServer` describe."""
        if require_token is None and tokens is None:
            return cls()
        given = {token: tuple(permissions) for token, permissions in (tokens or {}).items()}
        return cls(tokens=given if require_token is None else {require_token: _ANYTHING, **given})

    def accept(self, token: str, permissions: Iterable[str]) -> None:
        """Accept a token from now on. Another one was required before, or this one is from now on."""
        self.tokens = {**(self.tokens or {}), token: tuple(permissions)}

    def refusal(self, token: str | None) -> dict[str, Any] | None:
        """Return the fields of the error for a client with this token; None if it is accepted."""
        if token is None and self.tokens is not None:
            return {"error_code": "AUTH_REQUIRED", "error_message": "A token is required", "retryable": False}
        if token is not None and token not in (self.tokens or ()):
            message = "The token is invalid or expired"
            return {"error_code": "AUTH_FAILED", "error_message": message, "retryable": False}
        return None

    def forbids(self, token: str | None, name: str, data: Mapping[str, Any]) -> str | None:
        """Return what a request would read without permission; None if it may be answered."""
        if "channel" in data:
            resource = data["channel"]
        elif name in _RESOURCES:
            resource = f"{_RESOURCES[name]}:{data.get(f'{_RESOURCES[name]}_id')}"
        elif name in _LISTS:
            kind = {"list_workers": "pool", "list_waits": "workflow"}.get(name)
            resource_id = data.get(f"{kind}_id")
            resource = f"{kind}:{resource_id}" if kind and resource_id else _LISTS[name]
        else:
            return None
        return None if self.may_read(token, resource) else resource

    def may_read(self, token: str | None, resource: str) -> bool:
        """Return whether the owner of a token may read a channel, or every resource of a type."""
        if resource in self.forbidden:
            return False
        if self.tokens is None or token is None:
            return True
        kind, _, resource_id = resource.partition(":")
        kind = "global" if kind == "summary" else kind
        return any(_grants(permission, kind, resource_id) for permission in self.tokens.get(token, ()))

    def answer(self, token: str) -> dict[str, Any]:
        """Return the answer to `refresh_token`."""
        permissions = list((self.tokens or {})[token])
        return {"user_id": "tester", "permissions": permissions, "expires_at": time_in(LIFETIME_SECONDS)}


def time_in(seconds: float) -> str:
    """Return a time in the future, as a message has it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def _grants(permission: str, kind: str, resource_id: str) -> bool:
    if permission == "admin":
        return True
    granted_kind, _, rest = permission.partition(":")
    action, _, granted_id = rest.partition(":")
    if granted_kind != kind or action != "read":
        return False
    if not granted_id:
        return rest == "read"
    if granted_id.endswith("*"):
        return bool(resource_id) and resource_id.startswith(granted_id[:-1])
    return granted_id == resource_id


def token_of(websocket: ServerConnection) -> str | None:
    """Return the token that a client has sent: in a header, or as a browser does beside the subprotocol."""
    assert websocket.request is not None
    headers = websocket.request.headers
    kind, _, token = headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token
    offered = [name.strip() for value in headers.get_all("Sec-WebSocket-Protocol") for name in value.split(",")]
    return next((name.removeprefix(_TOKEN_PREFIX) for name in offered if name.startswith(_TOKEN_PREFIX)), None)


def select_subprotocol(_: ServerConnection, offered: Iterable[Subprotocol]) -> Subprotocol | None:
    """Return the subprotocol of the answer: never the token."""
    return SUBPROTOCOL if SUBPROTOCOL in offered else None
