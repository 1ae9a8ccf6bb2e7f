"""Check the types of the JavaScript client and of the pages, and the format of the pages' scripts.

The TypeScript compiler and Prettier come from npm's registry, with the hashes in `package-lock.json`: `make lint`
installs them. No other part of the tests needs npm's
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
PAGES_DIR: Final = PROJECT_DIR / "dashboard" / "static" / "dashboard"
INSTALLED_DIR: Final = PROJECT_DIR / ".venv" / "typescript"


def main() -> int:
    """Install the tools with the argument `install`, format with `format`, else check all and return the worst code."""
    if sys.argv[1:] == ["format"]:
        command = format_command("--write")
    elif sys.argv[1:] == ["install"]:
        INSTALLED_DIR.mkdir(exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PROGRAM_DIR / name, INSTALLED_DIR)
        command = [NODE, NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    else:
        compiler = INSTALLED_DIR / "node_modules" / "typescript" / "bin" / "tsc"
        projects = (PROGRAM_DIR, PROGRAM_DIR / "pages.tsconfig.json")
        return max(
            *(run([NODE, compiler, "--project", project]) for project in projects), run(format_command("--check"))
        )
    return run(command)


def format_command(mode: str) -> list[str | Path]:
    """Return the command that checks or writes the scripts of the pages, without the vendored libraries."""
    prettier = INSTALLED_DIR / "node_modules" / "prettier" / "bin" / "prettier.cjs"
    scripts = [PAGES_DIR / "*.js", PAGES_DIR / "pages" / "*.js"]
    return [NODE, prettier, mode, "--print-width=120", "--log-level=warn", *scripts]


def run(command: list[str | Path]) -> int:
    return subprocess.run(command, cwd=INSTALLED_DIR, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
