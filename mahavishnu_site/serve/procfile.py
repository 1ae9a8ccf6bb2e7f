"""The commands of the Procfile, and the environment that they need."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

PROCFILE = Path(__file__).with_name("Procfile")


def commands() -> dict[str, str]:
    """Return the name and the shell command of each program, in the order of the Procfile.

    This interpreter replaces the word `python`: outside a virtual environment, `python` may be missing or another one.
    """
    python = shlex.quote(sys.executable)
    lines = (line.partition(":") for line in PROCFILE.read_text(encoding="utf-8").splitlines())
    return {
        name.strip(): re.sub(r"(?<= )python(?= )", lambda _: python, command.strip())
        for name, _, command in lines
        if command
    }


def environment(base: Mapping[str, str], *, host: str, port: int, pages_port: int = 0) -> dict[str, str]:
    """Return `base` and the variables that the commands use.

    `MAHAVISHNU_INTERFACE` is the host as daphne's endpoint strings write it, with colons escaped. The folder of this
    interpreter comes first in `PATH`, so that the commands of stages find the programs of its environment.
    """
    return {
        **base,
        "MAHAVISHNU_HOST": host,
        "MAHAVISHNU_PORT": str(port),
        **({"MAHAVISHNU_PAGES_PORT": str(pages_port)} if pages_port else {}),
        "MAHAVISHNU_INTERFACE": host.replace(":", r"\:"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath)]),
        # Lines appear when they are printed, not when a buffer is full.
        "PYTHONUNBUFFERED": "1",
    }
