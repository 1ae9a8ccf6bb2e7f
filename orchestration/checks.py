"""Django system checks of the engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from django.core.checks import CheckMessage, Error, register

from orchestration.sdk.registry import broken_modules

WORKFLOWS_TAG: Final = "workflows"
"""The tag of the check that imports users' code. `manage.py check --tag workflows` runs only this one."""


_without_workflows: Final = ContextVar("_without_workflows", default=False)


def install() -> None:
    """Register the checks; `manage.py check` runs them."""
    register(check_workflows, WORKFLOWS_TAG)


@contextmanager
def without_workflows() -> Iterator[None]:
    """Skip the check that imports users' code in the block. Tags only select checks; they cannot exclude one."""
    token = _without_workflows.set(True)
    try:
        yield
    finally:
        _without_workflows.reset(token)


def check_workflows(**_: Any) -> list[CheckMessage]:
    """Report each `workflows` module that cannot be imported."""
    if _without_workflows.get():
        return []
    return [
        Error(f"{broken}.", hint="None of its workflows can be started.", id="orchestration.E001")
        for broken in broken_modules()
    ]
