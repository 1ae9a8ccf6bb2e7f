"""The modules that a page needs: a browser asks for all of them at once instead of one level after the other."""

from __future__ import annotations

import re
from functools import cache
from pathlib import PurePosixPath
from typing import Final

from django.contrib.staticfiles import finders

ENTRY_MODULES: Final = ("dashboard/connection.js", "dashboard/main.js")
"""The connection opens as soon as its module and what that imports are there, before those of the page."""

_STATIC_IMPORT: Final = re.compile(
    r"""(?:^|;)\s*(?:import|export)\b[^;"']*?\bfrom\s*["'](\.[^"']+)["']""", re.MULTILINE
)


@cache
def page_modules(page: str) -> tuple[str, ...]:
    """Return the static paths of the modules of a page, and of all that they import: those of the connection first.

    Modules that are imported when they are needed (`import()`) are left out.

    Args:
        page: The name of the page's module, such as `overview`.

    Raises:
        FileNotFoundError: if a module does not exist.
    """
    found: dict[str, None] = {}
    for entry in (*ENTRY_MODULES, f"dashboard/pages/{page}.js"):
        waiting = [entry]
        for path in waiting:
            if path not in found:
                found[path] = None
                waiting += _imports_of(path)
    return tuple(found)


def _imports_of(path: str) -> list[str]:
    file = finders.find(path)
    if not isinstance(file, str):
        raise FileNotFoundError(f"The static file {path} does not exist")
    with open(file, encoding="utf-8") as source:
        return [_resolved(PurePosixPath(path).parent / relative) for relative in _STATIC_IMPORT.findall(source.read())]


def _resolved(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
