"""What the client itself may do: so that a page shows only what will not be refused."""

from __future__ import annotations

from typing import Annotated, Final, cast

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router, Schema
from pydantic import Field

from realtime.api.clients import check_rate, identity_of, permissions_of
from realtime.api.read_answers import Filters, check_names
from realtime.auth.policy import Action, ResourceType, may
from realtime.protocol.payload import encode_data

router = Router(tags=["Reads"])

MAX_RESOURCES: Final = 200
_OPERATED: Final[tuple[ResourceType, ...]] = ("workflow", "pool", "worker", "definition")
_READ: Final[tuple[ResourceType, ...]] = ("workflow", "pool", "worker")

Resource = Annotated[str, Field(pattern=r"^(?:workflow|pool|worker|definition):.", max_length=300)]


class ResourceFilters(Filters):
    """Which resources."""

    resource: list[Resource] = Field(
        default=[],
        max_length=MAX_RESOURCES,
        description="`workflow:`, `pool:` or `worker:` and an id, or `definition:` and the name of a workflow.",
    )


class OwnPermissions(Schema):
    """What the client may do. It does not say what exists."""

    user: str = Field(description="The name of the user; empty without a token and a login.")
    read: list[str] = Field(description="Those of the given resources that the client may read.")
    operate: list[str] = Field(description="Those of the given resources that the client may operate.")
    read_all: bool = Field(description="Whether the client may read all workflows, pools and workers.")
    operate_all: bool = Field(description="Whether the client may operate everything, and start every workflow.")


@router.get(
    "permissions", response=OwnPermissions, operation_id="get_permissions", summary="Get the client's own permissions"
)
async def get_permissions(request: HttpRequest, filters: Query[ResourceFilters]) -> HttpResponse:
    """Return which of the given resources the client may read and operate, whether they exist or not.

    A definition is read with the permission to read all workflows. Permission: none.
    """
    check_names(request, ResourceFilters)
    permissions_of(request)
    check_rate(request)
    identity = identity_of(request)

    def allows(action: Action, resource: str) -> bool:
        kind, _, resource_id = resource.partition(":")
        if (action, kind) == ("read", "definition"):
            return may(identity, "read", "workflow")
        return may(identity, action, cast(ResourceType, kind), resource_id)

    answer = OwnPermissions(
        user=identity.user_id,
        read=[each for each in filters.resource if allows("read", each)],
        operate=[each for each in filters.resource if allows("operate", each)],
        read_all=all(may(identity, "read", kind) for kind in _READ),
        operate_all=all(may(identity, "operate", kind) for kind in _OPERATED),
    )
    return HttpResponse(encode_data(answer.model_dump()), content_type="application/json")
