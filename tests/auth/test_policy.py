"""Grants and the policy: exact, case-sensitive, a star only at the end, and nothing for what is unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.auth.identity import EVERYONE, ON_THIS_MACHINE, Identity
from realtime.auth.policy import Action, ResourceType, may

IDS = ["etl-1", "etl-2", "etl", "ETL-1", "*", "etl-*", "[etl-1]", "x:y", ""]
HEADS = [
    "workflow:read",
    "pool:read",
    "worker:read",
    "event:write",
    "pool:write",
    "operate",
]
PERMISSIONS = st.lists(
    st.one_of(
        st.sampled_from(["admin", "global:read", "metrics:read", *HEADS]),
        st.builds("{}:{}".format, st.sampled_from(HEADS), st.sampled_from(IDS)),
        st.builds("{}:{}*".format, st.sampled_from(HEADS), st.sampled_from(IDS)),
        st.text(max_size=12),
    ),
    max_size=5,
)
QUESTIONS = st.sampled_from(
    [("read", "global"), ("read", "metrics")]
    + [("read", resource_type) for resource_type in ("workflow", "pool", "worker")]
    + [("write", "event"), ("write", "pool")]
    + [("operate", resource_type) for resource_type in ("workflow", "pool", "worker", "definition")]
)


def oracle(permissions: list[str], action: str, resource_type: str, resource_id: str | None) -> bool:
    head = "operate" if action == "operate" else f"{resource_type}:{action}"
    granted = {"admin", head} & set(permissions)
    patterns = [p.removeprefix(f"{head}:") for p in permissions if p.startswith(f"{head}:") and p != f"{head}:"]
    is_named = [
        resource_id.startswith(p[:-1]) if p.endswith("*") else p == resource_id
        for p in patterns
        if resource_id is not None
    ]
    return bool(granted) or (any(is_named) and resource_type not in ("global", "metrics"))


@given(
    permissions=PERMISSIONS,
    question=QUESTIONS,
    resource_id=st.one_of(st.none(), st.sampled_from(IDS), st.text(max_size=6)),
)
def test_policy_agrees_with_the_oracle(
    permissions: list[str], question: tuple[Action, ResourceType], resource_id: str | None
) -> None:
    identity = Identity(user_id="u", permissions=tuple(permissions))
    assert may(identity, *question, resource_id) is oracle(permissions, *question, resource_id)


@pytest.mark.parametrize(
    "permission",
    [
        "Workflow:read",
        "workflow:READ",
        "workflow:read:",
        "workflow:*",
        "*",
        "*:read",
        "workflow",
        "workflow:write",
        "global:write",
        "global:read:x",
        "metrics:read:x",
        "worker:write",
        "event:read",
        "operate:",
        " workflow:read",
        "workflow:read ",
        "admin:",
        "Admin",
        "",
    ],
)
def test_unknown_permission_grants_nothing(permission: str) -> None:
    assert Identity(user_id="u", permissions=(permission,)).grants == {}


def test_star_before_the_end_is_a_character() -> None:
    identity = Identity(user_id="u", permissions=("workflow:read:a*b",))
    assert may(identity, "read", "workflow", "a*b")
    assert not may(identity, "read", "workflow", "axb")


def test_permission_for_ids_is_none_for_all() -> None:
    identity = Identity(user_id="u", permissions=("workflow:read:*", "pool:read:a"))
    assert may(identity, "read", "workflow", "anything")
    assert not may(identity, "read", "workflow")
    assert not may(identity, "read", "pool")


def test_permission_of_a_pool_gives_nothing_of_its_workers_elsewhere() -> None:
    identity = Identity(user_id="u", permissions=("pool:read:a",))
    assert not may(identity, "read", "worker", "a")
    assert not may(identity, "read", "global")


def test_everyone_reads_and_changes_nothing() -> None:
    assert all(may(EVERYONE, "read", kind) for kind in ("global", "workflow", "pool", "worker", "metrics"))
    assert not may(EVERYONE, "operate", "workflow", "wf_1")
    assert not may(EVERYONE, "write", "event", "wf_1")
    assert may(ON_THIS_MACHINE, "operate", "workflow", "wf_1")


def test_identity_shows_no_session_key() -> None:
    identity = Identity(user_id="u", permissions=(), session_key="secret-session")
    assert "secret-session" not in repr(identity)
