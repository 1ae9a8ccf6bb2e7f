"""The collected static files, which the servers of a test run share: collecting takes seconds of processor time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.harness.programs import run_to_end

FOLDER_VARIABLE: Final = "TESTS_STATIC_DIR"
"""The variable with the folder of the run, which `tests/conftest.py` creates. With `-n`, all processes inherit it."""

_COLLECT: Final = """
import django
django.setup()
from django.conf import settings
from mahavishnu_site.static_files import collect_static_files
collect_static_files(settings.MAHAVISHNU_STATIC_DIR)
"""


def shared_static_files(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variable with which a server uses the shared files. Collect them if no server has used them yet.

    The files contain their URLs, so each path prefix has a folder. Outside a test run, the server collects its own.

    Args:
        environment: The other variables of the server. They may name a folder already.
    """
    if FOLDER_VARIABLE not in os.environ or "MAHAVISHNU_STATIC_DIR" in environment:
        return {}
    shared = Path(os.environ[FOLDER_VARIABLE])
    prefix = environment.get("MAHAVISHNU_PATH_PREFIX", "").strip("/")
    folder = shared / f"static-{prefix.replace('/', '-')}"
    with (shared / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            variables = {
                "DJANGO_SETTINGS_MODULE": "mahavishnu_site.settings",
                "MAHAVISHNU_VAR_DIR": str(shared / "var"),
                "MAHAVISHNU_STATIC_DIR": str(folder),
                "MAHAVISHNU_PATH_PREFIX": f"/{prefix}" if prefix else "",
            }
            done = run_to_end("-c", _COLLECT, environment=variables)
            assert done.returncode == 0, done.stderr
    return {"MAHAVISHNU_STATIC_DIR": str(folder)}
