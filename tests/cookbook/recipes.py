"""The pages of the cookbook: the file of each, and its command lines."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.docs.markdown import PROJECT_DIR, Block, blocks


@dataclass(frozen=True)
class Recipe:
    """One page.

    Attributes:
        path: The page.
    """

    path: Path

    @cached_property
    def code(self) -> Block:
        """The only Python block, whose first line names its file."""
        (block,) = blocks(self.path, language="python")
        return block

    @property
    def file(self) -> str:
        """The path of its file, such as `retrieval/workflows.py`."""
        match = re.match(r"# (\w+/workflows\.py)\n", self.code.text)
        assert match is not None, self.code.where
        return match[1]

    @property
    def package(self) -> str:
        return self.file.partition("/")[0]

    def line(self, *words: str) -> list[str]:
        """Return the first command line of the page that has these words, with `$COMMAND` for what a shell runs."""
        return next(line for line in self.lines() if set(words) <= set(line))

    def lines(self) -> list[list[str]]:
        """Return the command lines of the page."""
        text = "".join(block.text for block in blocks(self.path, language="sh"))
        return [shlex.split(re.sub(r"\$\(.+?\)", "$COMMAND", line), comments=True) for line in text.splitlines()]


def recipes() -> list[Recipe]:
    """Return every page of the cookbook."""
    return [Recipe(path) for path in sorted((PROJECT_DIR / "docs" / "cookbook").glob("*.md"))]


def write_packages(folder: Path) -> list[str]:
    """Write the file of each page below a folder, and return the names of their packages."""
    packages = []
    for recipe in recipes():
        file = folder / recipe.file
        file.parent.mkdir()
        file.write_text(recipe.code.text, encoding="utf-8")
        packages.append(recipe.package)
    return packages
