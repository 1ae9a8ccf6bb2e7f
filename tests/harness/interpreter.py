"""A new interpreter with other variables, because a process reads its settings once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.harness.programs import PROJECT_DIR
from tests.harness.server import clean_environment


def run_python(var_dir: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the interpreter in the project with these arguments and variables, and wait for its end."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT_DIR,
        env={
            **clean_environment(),
            "DJANGO_SETTINGS_MODULE": "mahavishnu_site.settings",
            "MAHAVISHNU_VAR_DIR": str(var_dir),
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )
