"""The pages that a project adds to this site with `ROOT_URLCONF`."""

from __future__ import annotations

from django.conf import settings
from django.urls import Resolver404, resolve

from mahavishnu_site import urls


def is_project_page(path: str) -> bool:
    """Return whether a path is that of a page which a project has added, and not of this site.

    Args:
        path: The path of a request, with the prefix under which the site is published.
    """
    path = path.removeprefix(settings.MAHAVISHNU_PATH_PREFIX)
    try:
        view = resolve(path).func
    except Resolver404:
        return False
    try:
        return view is not resolve(path, urlconf=urls.__name__).func
    except Resolver404:
        return True
