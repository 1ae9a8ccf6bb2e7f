"""The one policy: what an identity may do. Every door asks it through `may()`.

A permission covers what the channel of the same name carries, ids of other resources included: a reader of a pool sees
the ids of its workers. It gives nothing of these resources elsewhere. There are no rules that deny.

`MAHAVISHNU_POLICY` names a function that decides instead of `is_granted`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import cache
from typing import Final, Literal

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from orchestration.log_throttle import LogThrottle
from realtime.auth.identity import Identity

logger = logging.getLogger(__name__)
_policy_failed = LogThrottle(logger, level=logging.ERROR)

Action = Literal["read", "write", "operate"]
ResourceType = Literal["global", "workflow", "pool", "worker", "event", "metrics", "definition"]
Policy = Callable[[Identity, Action, ResourceType, str | None], bool]

_WITHOUT_RESOURCES: Final = ("global", "metrics")
_MAX_SHOWN_CHARACTERS: Final = 128


def is_granted(identity: Identity, action: Action, resource_type: ResourceType, resource_id: str | None = None) -> bool:
    """Return whether the permissions of an identity grant something. It is pure, and takes at most a microsecond.

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


def may(identity: Identity, action: Action, resource_type: ResourceType, resource_id: str | None = None) -> bool:
    """Return whether an identity may do something, with the arguments of `is_granted`.

    A policy of `MAHAVISHNU_POLICY` that raises, or returns anything but True, refuses.
    """
    path: str = settings.MAHAVISHNU_POLICY
    if not path:
        return is_granted(identity, action, resource_type, resource_id)
    try:
        return load_policy(path)(identity, action, resource_type, resource_id) is True
    except Exception as error:
        _policy_failed.log("MAHAVISHNU_POLICY %s failed (%r); refused", path, error)
        return False


@cache
def load_policy(path: str) -> Policy:
    """Return the policy with this dotted path.

    Raises:
        ImproperlyConfigured: if it cannot be imported, or cannot be called as `is_granted` can.
    """
    try:
        policy: Policy = import_string(path)
        inspect.signature(policy).bind(Identity(user_id="", permissions=()), "read", "workflow", "id")
    except (ImportError, TypeError, ValueError) as error:
        raise ImproperlyConfigured(
            f"MAHAVISHNU_POLICY: {path!r}: expected the dotted path of a function with the arguments identity, action, "
            f"resource_type and resource_id ({error})"
        ) from error
    if inspect.iscoroutinefunction(policy):
        raise ImproperlyConfigured(f"MAHAVISHNU_POLICY: {path!r}: expected a function that is not `async`")
    return policy


def no_permission(action: Action, resource_type: ResourceType, resource_id: str | None = None) -> str:
    """Return the text of a refusal: the same for what exists and what does not."""
    if resource_id is not None:
        return f"No permission to {action} {resource_type}:{resource_id[:_MAX_SHOWN_CHARACTERS]}"
    resources = resource_type if resource_type in _WITHOUT_RESOURCES else f"all {resource_type}s"
    return f"No permission to {action} {resources}"
