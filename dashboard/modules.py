"""The modules that a page needs: a browser asks for all of them at once instead of one level after the other."""

from __future__ import annotations

import re
from functools import cache
from pathlib import PurePosixPath
from typing import Final

from django.contrib.staticfiles import finders

MAIN_MODULE: Final = "dashboard/main.js"

_STATIC_IMPORT: Final = re.compile(r"""^(?:import|export)\b[^;]*?\bfrom\s*["'](\.[^"']+)["']""", re.MULTILINE)


@cache
def imported_modules(main: str = MAIN_MODULE) -> tuple[str, ...]:
    """Return the static paths of a module and of all that it imports, and they import: nearest first.

    Modules that are imported when they are needed (`import()`) are left out.

    Raises:
        FileNotFoundError: if a module does not exist.
    """
    found = [main]
    for path in found:
        file = finders.find(path)
        if not isinstance(file, str):
            raise FileNotFoundError(f"The static file {path} does not exist")
        with open(file, encoding="utf-8") as source:
            imports = _STATIC_IMPORT.findall(source.read())
        for relative in imports:
            imported = _resolved(PurePosixPath(path).parent / relative)
            if imported not in found:
                found.append(imported)
    return tuple(found)


def _resolved(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
