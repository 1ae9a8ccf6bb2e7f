"""The Python files of a source tree."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

PROJECT_DIR: Final = Path(__file__).resolve().parent.parent

MAX_FILES: Final = 5000

_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages", "build", "dist", "var"})


class TooManyFiles(Exception):
    """A tree is too large for a demonstration."""

    def __init__(self, root: Path) -> None:
        self.root = root
        super().__init__(f"{root} has more than {MAX_FILES} Python files: choose a folder below it")


def python_files(root: Path) -> list[str]:
    """Return the path of every Python file below a folder, relative to it and sorted. Hidden folders are skipped.

    Raises:
        TooManyFiles: if there are more than 5000.
    """
    found: list[str] = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and name not in _SKIPPED)
        here = Path(folder).relative_to(root)
        found.extend(str(here / name) for name in files if name.endswith(".py"))
        if len(found) > MAX_FILES:
            raise TooManyFiles(root)
    return sorted(found)
