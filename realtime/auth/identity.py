"""Who a client is, and what it may do. An identity has no I/O and never changes: a new token makes a new one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

ADMIN_GRANT: Final = "admin"
"""The grant of everything."""

RESOURCE_TYPES_OF_ACTION: Final = {
    "read": ("workflow", "pool", "worker"),
    "write": ("event", "pool"),
}
"""The grants `TYPE:ACTION[:ID or PREFIX*]`, by action."""

_WITHOUT_ID: Final = {"global:read": ("read", "global"), "metrics:read": ("read", "metrics")}
_OPERATE: Final = "operate"


@dataclass(frozen=True, slots=True)
class Grant:
    """The resources of one type that an identity may use in one way.

    Attributes:
        all: Whether these are all resources of the type.
        ids: Their ids, if not all.
        prefixes: What their ids begin with, if not all.
    """

    all: bool = False
    ids: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()


Grants = dict[tuple[str, str], Grant]


def parse_grants(permissions: Iterable[str]) -> Grants:
    """Return the grants of permissions by action and resource type. An unknown permission grants nothing.

    The grammar is `admin`, `global:read`, `metrics:read`, `TYPE:read[:ID]` for a workflow, pool or worker,
    `event:write[:ID]`, `pool:write[:ID]` and `operate[:ID]`. An ID may end with one `*`, which stands for any rest. A
    `*` elsewhere is a character like any other.
    """
    grants: Grants = {}
    for permission in permissions:
        if permission == ADMIN_GRANT:
            grants["admin", ""] = Grant(all=True)
        elif permission in _WITHOUT_ID:
            grants[_WITHOUT_ID[permission]] = Grant(all=True)
        elif (parsed := _parse(permission)) is not None:
            key, pattern = parsed
            grants[key] = _with_pattern(grants.get(key, Grant()), pattern)
    return grants


def _parse(permission: str) -> tuple[tuple[str, str], str | None] | None:
    head, separator, rest = permission.partition(":")
    if head == _OPERATE:
        key, pattern, is_restricted = (_OPERATE, ""), rest, bool(separator)
    else:
        action, separator, pattern = rest.partition(":")
        if head not in RESOURCE_TYPES_OF_ACTION.get(action, ()):
            return None
        key, is_restricted = (action, head), bool(separator)
    if not is_restricted:
        return key, None
    return (key, pattern) if pattern else None


def _with_pattern(grant: Grant, pattern: str | None) -> Grant:
    if pattern is None or grant.all:
        return Grant(all=True)
    if pattern.endswith("*"):
        return Grant(ids=grant.ids, prefixes=(*grant.prefixes, pattern[:-1]))
    return Grant(ids=grant.ids | {pattern}, prefixes=grant.prefixes)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A client whose credentials were checked.

    Attributes:
        user_id: The name that it goes by in logs and in events that it reports; empty without credentials.
        permissions: What it may do, as in the claim `permissions` of a token.
        token_id: The claim `jti` of its token, if any.
        issued_at: When its token was issued, in seconds since the epoch, if the token has it.
        expires_at: When its token expires, in seconds since the epoch; None if it has no token.
        session_key: The Django session it came with, if any.
    """

    user_id: str
    permissions: tuple[str, ...]
    token_id: str | None = None
    issued_at: float | None = None
    expires_at: float | None = None
    session_key: str | None = field(default=None, repr=False)
    grants: Grants = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "grants", parse_grants(self.permissions))


READ_PERMISSIONS: Final = ("global:read", "workflow:read", "pool:read", "worker:read", "metrics:read")

ON_THIS_MACHINE: Final = Identity(user_id="", permissions=(ADMIN_GRANT,))
"""A client without credentials that connects directly from this machine, while no credentials are required."""

EVERYONE: Final = Identity(user_id="", permissions=READ_PERMISSIONS)
"""Any other client without credentials, while no credentials are required: it reads, and changes nothing."""
