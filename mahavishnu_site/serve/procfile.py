"""The lines of the Procfile and the environment they are written for."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from honcho.environ import parse_procfile

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent


def commands() -> dict[str, str]:
    """Return each part's name and its shell command, in the order of the Procfile."""
    text = (PROJECT_DIR / "Procfile").read_text(encoding="utf-8")
    return dict(parse_procfile(text).processes)


def environment(base: Mapping[str, str], *, host: str, port: int) -> dict[str, str]:
    """Return `base` with what the commands take from it.

    `MAHAVISHNU_INTERFACE` is the host as one of daphne's endpoint strings wants it, with colons escaped; the
    interpreter's own folder comes first in `PATH`, so that `python` and `daphne` are those beside it.
    """
    return {
        **base,
        "MAHAVISHNU_HOST": host,
        "MAHAVISHNU_PORT": str(port),
        "MAHAVISHNU_INTERFACE": host.replace(":", r"\:"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath)]),
        # Lines appear when they are printed, not when a buffer is full.
        "PYTHONUNBUFFERED": "1",
    }
