"""The realtime half: it announces what changes in `orchestration` to every interested client."""

from __future__ import annotations

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    name = "realtime"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from realtime.events import receivers

        receivers.connect()
