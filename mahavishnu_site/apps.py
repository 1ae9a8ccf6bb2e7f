"""The Django application that carries the site's own management commands."""

from __future__ import annotations

from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "mahavishnu_site"
    verbose_name = "Mahavishnu"
