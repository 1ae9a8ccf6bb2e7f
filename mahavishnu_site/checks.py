"""Django system checks of the site: settings that are valid but that an operator should know about."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register

from mahavishnu_site.var_dir import is_readable_by_others

OPEN_TO_EVERYONE = (
    "Open to everyone: MAHAVISHNU_HOST, ALLOWED_HOSTS or MAHAVISHNU_ALLOWED_ORIGINS names more than this machine, and "
    "the WebSocket has no login"
)

# Variables that parts of the project set for the processes that they start.
INTERNAL_VARIABLES = frozenset(
    f"MAHAVISHNU_{name}"
    for name in (
        "ATTEMPT",
        "IDEMPOTENCY_KEY",
        "INTERFACE",
        "PROMPT",
        "STAGE_NAME",
        "WORKFLOW_ID",
    )
)


def install() -> None:
    """Register the checks; `manage.py check` runs them."""
    register(check_access_control, Tags.security, deploy=True)
    register(check_var_dir, Tags.security, deploy=True)
    # A check without a tag would not run in this project's commands.
    register(check_variables, Tags.compatibility)


def check_access_control(**_: Any) -> list[CheckMessage]:
    """Warn about a server that other machines can reach."""
    if not settings.MAHAVISHNU_EXPOSED:
        return []
    return [
        Warning(
            f"{OPEN_TO_EVERYONE}.",
            hint="Restrict access in the proxy or the network; see docs/operations.md, access control.",
            id="mahavishnu.W001",
        )
    ]


def check_var_dir(**_: Any) -> list[CheckMessage]:
    """Warn about a var folder that other users may list. The files in it are closed to them."""
    if not is_readable_by_others(settings.MAHAVISHNU_VAR_DIR):
        return []
    return [
        Warning(
            f"Other users of this machine can list the files of {settings.MAHAVISHNU_VAR_DIR}.",
            hint="Close the folder with `chmod 700`, or StateDirectoryMode=0700 of systemd.",
            id="mahavishnu.W002",
        )
    ]


def check_variables(**_: Any) -> list[CheckMessage]:
    """Warn about variables that look like settings but have no effect."""
    unread: dict[str, str | None] = settings.MAHAVISHNU_UNREAD_VARIABLES
    return [
        Warning(
            f"The variable {name} has no effect.",
            hint=f"Did you mean {similar}?" if similar else "docs/configuration.md lists all variables.",
            id="mahavishnu.W003",
        )
        for name, similar in unread.items()
        if name not in INTERNAL_VARIABLES
    ]
