"""The Django app of the site's own management commands."""

from __future__ import annotations

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """The app `mahavishnu_site`."""

    name = "mahavishnu_site"
    verbose_name = "Mahavishnu"
