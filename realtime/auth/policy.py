"""The one policy: what an identity may do. Every door asks it through `may()`.

A permission covers what the channel of the same name carries, ids of other resources included: a reader of a pool sees
the ids of its workers. It gives nothing of these resources elsewhere. There are no rules that deny.
"""

from __future__ import annotations

from typing import Literal

from realtime.auth.identity import Identity

Action = Literal["read", "write", "operate"]
ResourceType = Literal["global", "workflow", "pool", "worker", "event", "metrics", "definition"]


def may(identity: Identity, action: Action, resource_type: ResourceType, resource_id: str | None = None) -> bool:
    """Return whether an identity may do something. It is pure, and takes at most a microsecond.

    Args:
        identity: Who asks.
        action: `read` a channel or what it carries, `write` events and pools from outside, or `operate` runs.
        resource_type: What kind of resource. An event is written about the workflow, pool or worker with `resource_id`.
        resource_id: Which resource; None for all of the type.
    """
    grants = identity.grants
    if ("admin", "") in grants:
        return True
    grant = grants.get(("operate", "") if action == "operate" else (action, resource_type))
    if grant is None:
        return False
    if grant.all:
        return True
    return resource_id is not None and (resource_id in grant.ids or resource_id.startswith(grant.prefixes))
