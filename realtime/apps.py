"""The Django app that publishes changes of `orchestration` to subscribed clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings

from orchestration.apps import set_default_settings
from realtime.exposure import is_exposed
from realtime.limits import Limits

# The host and the port are where the commands expect the running server.
DEFAULT_SETTINGS: Final[Mapping[str, Any]] = {
    "MAHAVISHNU_LIMITS": Limits(),
    "MAHAVISHNU_HOST": "127.0.0.1",
    "MAHAVISHNU_PORT": 8000,
    "MAHAVISHNU_PROCESSES": 1,
    "MAHAVISHNU_ALLOWED_ORIGINS": (),
    "MAHAVISHNU_DIRECT_FRAMES": True,
    "MAHAVISHNU_REDIS_URLS": (),
}


def _is_exposed() -> bool:
    origins = (urlsplit(origin).hostname or "*" for origin in settings.MAHAVISHNU_ALLOWED_ORIGINS)
    return is_exposed([settings.MAHAVISHNU_HOST, *settings.ALLOWED_HOSTS, *origins])


class RealtimeConfig(AppConfig):
    """Connects the signals of `orchestration` when Django is ready."""

    name = "realtime"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        set_default_settings(DEFAULT_SETTINGS)
        set_default_settings({"MAHAVISHNU_EXPOSED": _is_exposed()})
        from realtime.events import receivers

        receivers.connect()
