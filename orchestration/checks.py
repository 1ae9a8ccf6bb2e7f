"""Django system checks of the engine."""

from __future__ import annotations

from typing import Any, Final

from django.core.checks import CheckMessage, Error, register

from orchestration.sdk.registry import broken_modules

WORKFLOWS_TAG: Final = "workflows"
"""The tag of the check that imports users' code. `manage.py check --tag workflows` runs only this one."""


def install() -> None:
    """Register the checks; `manage.py check` runs them."""
    register(check_workflows, WORKFLOWS_TAG)


def check_workflows(**_: Any) -> list[CheckMessage]:
    """Report each `workflows` module that cannot be imported."""
    return [
        Error(f"{broken}.", hint="None of its workflows can be started.", id="orchestration.E001")
        for broken in broken_modules()
    ]
