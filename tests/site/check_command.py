"""`manage.py check` in a separate process."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.harness.interpreter import run_python


def run_check(var_dir: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `manage.py check` with these arguments and variables; a warning fails it."""
    return run_python(var_dir, "manage.py", "check", "--fail-level", "WARNING", *arguments, **variables)
