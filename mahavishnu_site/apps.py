"""The Django app of the site's own management commands and system checks."""

from __future__ import annotations

from django.apps import AppConfig

from mahavishnu_site import checks


class SiteConfig(AppConfig):
    """The app `mahavishnu_site`."""

    name = "mahavishnu_site"
    verbose_name = "Mahavishnu"

    def ready(self) -> None:
        checks.install()
