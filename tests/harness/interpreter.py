"""A new interpreter with other variables, because a process reads its settings once."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.harness.programs import run_to_end
from tests.harness.server import clean_environment


def run_python(var_dir: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the interpreter in the project with these arguments and variables, and wait for its end."""
    settings = {"DJANGO_SETTINGS_MODULE": "mahavishnu_site.settings", "MAHAVISHNU_VAR_DIR": str(var_dir)}
    return run_to_end(*arguments, environment={**clean_environment(), **settings, **variables})
