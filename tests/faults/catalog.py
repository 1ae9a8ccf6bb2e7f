"""The faults of `faults.toml`. Each changes the text of one module, and its test must then fail."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault.

    Attributes:
        name: What is wrong, in a few words.
        module: The file that is changed, relative to the project.
        old: A text that occurs exactly once in the file.
        new: Its replacement.
        caught_by: The test that must fail, as pytest names it.
    """

    name: str
    module: str
    old: str
    new: str
    caught_by: str

    def apply(self, text: str) -> str:
        """Return the text of the module with the fault in it.

        Raises:
            ValueError: if `old` does not occur in the text exactly once.
        """
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} occurs {text.count(self.old)} times in {self.module}")
        return text.replace(self.old, self.new)


def load_faults() -> list[Fault]:
    """Return every fault, in the order of the file."""
    table = tomllib.loads((Path(__file__).parent / "faults.toml").read_text(encoding="utf-8"))
    return [Fault(**entry) for entry in table["fault"]]
