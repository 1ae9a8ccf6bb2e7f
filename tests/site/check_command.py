"""`manage.py check` in a separate process, because settings are read once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.harness.programs import PROJECT_DIR
from tests.harness.server import clean_environment


def run_check(var_dir: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `manage.py check` with these arguments and variables; a warning fails it."""
    return subprocess.run(
        [sys.executable, "manage.py", "check", "--fail-level", "WARNING", *arguments],
        cwd=PROJECT_DIR,
        env={**clean_environment(), "MAHAVISHNU_VAR_DIR": str(var_dir), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
