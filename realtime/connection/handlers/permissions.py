"""The table of permissions: what each type of request asks of the policy, before its handler and before any query.

A request without a row is an error at import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from realtime.auth.identity import Identity
from realtime.auth.policy import Action, ResourceType, may, no_permission
from realtime.protocol.channels import GLOBAL, SUMMARY, check_channel, resource_of
from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.requests import (
    REQUESTS,
    Auth,
    GetPoolHistory,
    GetPoolStatus,
    GetServerStatus,
    GetStageResult,
    GetWorkflow,
    GetWorkflowStatus,
    ListDefinitions,
    ListEvents,
    ListPools,
    ListStages,
    ListWaits,
    ListWorkers,
    ListWorkflows,
    RefreshToken,
    Request,
    Subscribe,
    Unsubscribe,
)
from realtime.protocol.stream_messages import is_stream_channel, parse_stream_channel


@dataclass(frozen=True, slots=True)
class Permission:
    """What a request needs: the arguments of the policy, less the identity."""

    action: Action
    resource_type: ResourceType
    resource_id: str | None = None

    def is_held_by(self, identity: Identity) -> bool:
        """Return whether the policy grants this."""
        return may(identity, self.action, self.resource_type, self.resource_id)

    def require(self, identity: Identity) -> None:
        """Ask the policy.

        Raises:
            RequestError: with `FORBIDDEN` if it does not grant this.
        """
        if not self.is_held_by(identity):
            message = no_permission(self.action, self.resource_type, self.resource_id)
            raise RequestError(ErrorCode.FORBIDDEN, message)


def permission_of_channel(channel: str) -> Permission:
    """Return what it needs to read a channel. `summary` carries the events of `global`.

    A stream of chunks belongs to its workflow.

    Raises:
        InvalidChannel: if its name does not follow the grammar.
    """
    if is_stream_channel(channel):
        return Permission("read", "workflow", parse_stream_channel(channel).workflow_id)
    if check_channel(channel) in (GLOBAL, SUMMARY):
        return Permission("read", "global")
    resource_type, resource_id = resource_of(channel)
    return Permission("read", resource_type, resource_id)  # type: ignore[arg-type]  # The grammar has these types.


def forbidden_channels(identity: Identity, channels: Iterable[str]) -> list[str]:
    """Return those of the channels that an identity may not read, sorted: after `refresh_token`, it must leave them."""
    return sorted(channel for channel in channels if not permission_of_channel(channel).is_held_by(identity))


def _of_channel(request: Any) -> Permission:
    return permission_of_channel(request.channel)


def _of_workflow(request: Any) -> Permission:
    return Permission("read", "workflow", request.workflow_id)


def _of_pool(request: Any) -> Permission:
    return Permission("read", "pool", request.pool_id)


def _of_workers(request: ListWorkers) -> Permission:
    # The workers of one pool are in its channel. Those of all pools are in no channel of one resource.
    return Permission("read", "worker") if request.pool_id is None else Permission("read", "pool", request.pool_id)


def _of_waits(request: ListWaits) -> Permission:
    # Those of one workflow are in the snapshot of its channel.
    return Permission("read", "workflow", request.workflow_id)


def _always(permission: Permission | None) -> Callable[[Any], Permission | None]:
    return lambda _request: permission


PERMISSIONS: Final[dict[type[Request], Callable[[Any], Permission | None]]] = {
    Subscribe: _of_channel,
    Unsubscribe: _of_channel,
    ListEvents: _of_channel,
    GetWorkflowStatus: _of_workflow,
    GetWorkflow: _of_workflow,
    ListStages: _of_workflow,
    GetStageResult: _of_workflow,
    GetPoolStatus: _of_pool,
    GetPoolHistory: _of_pool,
    ListWorkers: _of_workers,
    ListWaits: _of_waits,
    ListWorkflows: _always(Permission("read", "workflow")),
    ListPools: _always(Permission("read", "pool")),
    ListDefinitions: _always(Permission("read", "workflow")),
    GetServerStatus: _always(Permission("read", "metrics")),
    Auth: _always(None),
    RefreshToken: _always(None),
}
"""What each type of request needs; None for nothing."""


def check_rows(requests: Iterable[type[Request]]) -> None:
    """Raise LookupError if one of these types of requests has no row."""
    missing = sorted(request.__name__ for request in requests if request not in PERMISSIONS)
    if missing:
        raise LookupError(f"no row in PERMISSIONS: {', '.join(missing)}")


check_rows(REQUESTS.values())


def require_permission(identity: Identity, request: Request) -> None:
    """Ask the policy about a request.

    Raises:
        InvalidChannel: if it names a channel that does not follow the grammar.
        RequestError: with `FORBIDDEN` if it is not permitted.
    """
    permission = PERMISSIONS[type(request)](request)
    if permission is not None:
        permission.require(identity)
