"""The Django app of the site: its management commands, system checks, and the log lines of failed logins."""

from __future__ import annotations

from django.apps import AppConfig

from mahavishnu_site import checks


class SiteConfig(AppConfig):
    """The app `mahavishnu_site`."""

    name = "mahavishnu_site"
    verbose_name = "Mahavishnu"

    def ready(self) -> None:
        checks.install()
        from mahavishnu_site.logins import log_failures

        log_failures()
