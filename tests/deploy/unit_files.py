"""The units of `deploy/systemd`, and their commands with the paths of this checkout."""

from __future__ import annotations

import re
import shlex
import sys
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

from tests.harness.programs import PROJECT_DIR

UNITS = sorted((PROJECT_DIR / "deploy" / "systemd").glob("*.service"))

INSTALLED = "/opt/mahavishnu/.venv/bin/"


class _UnitParser(ConfigParser):
    """Reads a unit file, whose settings are case-sensitive. A setting that may be repeated has one line per value."""

    def __init__(self) -> None:
        super().__init__(interpolation=None, strict=False, delimiters=("=",), comment_prefixes=("#",))

    def optionxform(self, optionstr: str) -> str:
        return optionstr


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit.

    Attributes:
        path: Its file.
        instance: The text for `%i`; empty for a unit that is no template.
    """

    path: Path
    instance: str = ""

    def settings(self, section: str = "Service") -> dict[str, str]:
        parser = _UnitParser()
        parser.read(self.path, encoding="utf-8")
        return {name: value.replace("%i", self.instance) for name, value in parser[section].items()}

    def environment(self) -> dict[str, str]:
        """Return the variables that the unit sets."""
        lines = re.findall(r"^Environment=(\w+)=(.*)$", self.path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        return dict(lines)

    def command(self) -> list[str]:
        """Return the words of `ExecStart`, with the programs of this checkout's environment."""
        words = shlex.split(self.settings()["ExecStart"])
        return [word.replace(INSTALLED, f"{Path(sys.executable).parent}/") for word in words]


def unit(name: str, instance: str = "") -> Unit:
    return Unit(PROJECT_DIR / "deploy" / "systemd" / name, instance)
