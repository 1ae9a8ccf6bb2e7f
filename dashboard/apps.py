"""The Django app of the pages."""

from __future__ import annotations

from django.apps import AppConfig


class DashboardConfig(AppConfig):
    """The app `dashboard`: templates and static files."""

    name = "dashboard"
    verbose_name = "Dashboard"
