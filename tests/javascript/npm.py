"""The npm of the Node.js that the tests use, without a network."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.harness.browser import NODE

# The script `bin/npm` of the wheel is a copy and does not find its library.
NPM = Path(NODE).parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def npm(*arguments: str | Path, directory: Path) -> str:
    """Run npm in a folder, with an empty cache and no registry, and return its output."""
    done = subprocess.run(
        [NODE, NPM, *map(str, arguments), "--offline", "--no-audit", "--no-fund", f"--cache={directory / 'cache'}"],
        cwd=directory,
        # No settings of the machine or its user.
        env={"PATH": str(Path(NODE).parent), "HOME": str(directory)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
