"""A policy of one's own, `MAHAVISHNU_POLICY`."""

from __future__ import annotations

import logging

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from realtime.auth.identity import EVERYONE, ON_THIS_MACHINE, Identity
from realtime.auth.policy import Action, ResourceType, is_granted, load_policy, may, no_permission
from tests.harness.programs import run_to_end
from tests.harness.server import clean_environment

ALICE = Identity(user_id="alice", permissions=("workflow:read:etl-*",))


def own_runs_only(
    identity: Identity, action: Action, resource_type: ResourceType, resource_id: str | None = None
) -> bool:
    if is_granted(identity, action, resource_type, resource_id):
        return True
    return resource_id is not None and resource_id.startswith(f"{identity.user_id}-")


def failing(identity: Identity, action: str, resource_type: str, resource_id: str | None) -> bool:
    raise RuntimeError("the directory of users is down")


def truthy(identity: Identity, action: str, resource_type: str, resource_id: str | None) -> str:
    return "no"


async def coroutine(identity: Identity, action: str, resource_type: str, resource_id: str | None) -> bool:
    return False


def too_few_arguments(identity: Identity) -> bool:
    return True


def test_own_policy_decides(settings: Settings) -> None:
    assert not may(ALICE, "read", "workflow", "alice-1")
    settings.MAHAVISHNU_POLICY = f"{__name__}.own_runs_only"
    assert may(ALICE, "read", "workflow", "alice-1")
    assert not may(ALICE, "read", "workflow", "bob-1")


def test_policy_that_fails_refuses_and_logs(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    settings.MAHAVISHNU_LOG_REPEAT_SECONDS = 0
    settings.MAHAVISHNU_POLICY = f"{__name__}.failing"
    with caplog.at_level(logging.ERROR):
        assert not may(ON_THIS_MACHINE, "read", "global")
    assert caplog.messages == [
        f"MAHAVISHNU_POLICY {__name__}.failing failed (RuntimeError('the directory of users is down')); refused"
    ]


def test_policy_grants_only_with_true(settings: Settings) -> None:
    settings.MAHAVISHNU_POLICY = f"{__name__}.truthy"
    assert not may(ON_THIS_MACHINE, "read", "global")


@pytest.mark.parametrize("name", ["coroutine", "too_few_arguments", "missing", "ALICE"])
def test_policy_that_cannot_be_called_is_refused(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="MAHAVISHNU_POLICY"):
        load_policy(f"{__name__}.{name}")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("tests.auth.nowhere.may", "tests.auth.nowhere was not found"),
        ("may", "the dotted path of a function"),
        (f"{__name__}.too_few_arguments", "expected the dotted path of a function with the arguments identity"),
    ],
)
def test_process_with_an_unusable_policy_does_not_start(path: str, problem: str) -> None:
    ended = run_to_end("manage.py", "check", environment={**clean_environment(), "MAHAVISHNU_POLICY": path})
    assert ended.returncode != 0
    assert problem in ended.stderr


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (("read", "workflow", "abc"), "No permission to read workflow:abc"),
        (("read", "workflow", None), "No permission to read all workflows"),
        (("read", "global", None), "No permission to read global"),
        (("operate", "definition", "etl"), "No permission to operate definition:etl"),
        (("write", "event", "x" * 500), f"No permission to write event:{'x' * 128}"),
    ],
)
def test_refusal_names_action_and_resource(question: tuple[Action, ResourceType, str | None], text: str) -> None:
    assert no_permission(*question) == text


def test_everyone_and_this_machine_have_a_policy() -> None:
    assert may(EVERYONE, "read", "workflow", "any")
    assert may(ON_THIS_MACHINE, "operate", "pool", "any")
