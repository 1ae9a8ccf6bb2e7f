"""Check the types of the JavaScript client and of the pages with the TypeScript compiler, which `make lint` installs.

The compiler comes from npm's registry, with the hash in `package-lock.json`. No other part of the tests needs npm's
registry.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.harness.browser import NODE
from tests.harness.programs import PROJECT_DIR
from tests.javascript.npm import NPM

PROGRAM_DIR: Final = Path(__file__).with_name("typescript")
INSTALLED_DIR: Final = PROJECT_DIR / ".venv" / "typescript"


def main() -> int:
    """Install the compiler with the argument `install`; without one, run it for both and return the worst exit code."""
    if sys.argv[1:] == ["install"]:
        INSTALLED_DIR.mkdir(exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PROGRAM_DIR / name, INSTALLED_DIR)
        command: list[str | Path] = [NODE, NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    else:
        compiler = INSTALLED_DIR / "node_modules" / "typescript" / "bin" / "tsc"
        projects = (PROGRAM_DIR, PROGRAM_DIR / "pages.tsconfig.json")
        return max(run([NODE, compiler, "--project", project]) for project in projects)
    return run(command)


def run(command: list[str | Path]) -> int:
    return subprocess.run(command, cwd=INSTALLED_DIR, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
