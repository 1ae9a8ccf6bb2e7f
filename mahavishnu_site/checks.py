"""Django system checks of the site: settings that are valid but that an operator should know about."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from mahavishnu_site.var_dir import is_readable_by_others
from realtime.exposure import SETTINGS_REASON, is_local_only, is_open_to_everyone, refusal

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
    """Reject a server that others can reach, or that is open to everyone, without credentials."""
    if is_open_to_everyone():
        reason = "This server is open to everyone (MAHAVISHNU_OPEN_TO_EVERYONE): clients need no token and no login."
    elif settings.MAHAVISHNU_EXPOSED and is_local_only():
        reason = refusal(SETTINGS_REASON)
    else:
        return []
    hint = "Set MAHAVISHNU_REQUIRE_AUTH=1; see docs/operations.md, access control."
    return [Error(reason, hint=hint, id="mahavishnu.E001")]


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
