"""Settings of Django for static files: where they are collected, and their URLs."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def static_settings(*, folder: Path, prefix: str) -> dict[str, Any]:
    """Return the settings.

    Args:
        folder: Where the files are collected.
        prefix: The path prefix; empty for none.
    """
    return {
        "STATIC_ROOT": folder,
        "STATIC_URL": f"{prefix}/static/",
        "STORAGES": {
            "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
            "staticfiles": {"BACKEND": "mahavishnu_site.static_files.HashedNames"},
        },
    }
