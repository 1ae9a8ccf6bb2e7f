"""The Django application that holds the state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.apps import AppConfig
from django.conf import settings

from orchestration.limits import EngineLimits
from orchestration.log_throttle import INTERVAL_SECONDS

DEFAULT_ADAPTERS: Final = {
    "python": "orchestration.adapters.python.PythonAdapter",
    "command": "orchestration.adapters.command.CommandAdapter",
    "llamaindex": "orchestration.adapters.llamaindex.LlamaIndexAdapter",
}

# `celery.current_app` is the Celery application of the project.
DEFAULT_SETTINGS: Final[Mapping[str, Any]] = {
    "MAHAVISHNU_ENGINE": EngineLimits(),
    "MAHAVISHNU_APPS": (),
    "MAHAVISHNU_LOG_REPEAT_SECONDS": INTERVAL_SECONDS,
    "MAHAVISHNU_SECRET_VARIABLES": (),
    "MAHAVISHNU_SECRETS_KEY": "",
    "MAHAVISHNU_ADAPTERS": DEFAULT_ADAPTERS,
    "MAHAVISHNU_RELEASE": "",
    "MAHAVISHNU_CREATE_POOLS": True,
    "MAHAVISHNU_CELERY_APP": "celery.current_app",
}


class OrchestrationConfig(AppConfig):
    """The application `orchestration`."""

    name = "orchestration"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        set_default_settings(DEFAULT_SETTINGS)
        from orchestration import checks
        from orchestration.db import postgres_session
        from orchestration.models import Workflow
        from orchestration.services import pool_metrics, sub_run_waits

        checks.install()
        postgres_session.install()
        pool_metrics.install()
        Workflow.wake_parent = sub_run_waits.wake_parent


def set_default_settings(defaults: Mapping[str, Any]) -> None:
    """Set each setting that the project does not define."""
    for name, value in defaults.items():
        if not hasattr(settings, name):
            setattr(settings, name, value)
