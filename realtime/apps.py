"""The Django app that publishes changes of `orchestration` to subscribed clients."""

from __future__ import annotations

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    """Connects the signals of `orchestration` when Django is ready."""

    name = "realtime"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from realtime.events import receivers

        receivers.connect()
