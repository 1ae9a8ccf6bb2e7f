"""`python -m demonstrations.compile_all FOLDER`: a program for the adapter `command` that reports its progress."""

from __future__ import annotations

import sys
from pathlib import Path

from demonstrations.source_files import python_files

FILES_PER_REPORT = 25


def main() -> None:
    """Compile every Python file below a folder; exit with 1 if any has a syntax error."""
    root = Path(sys.argv[1])
    paths = python_files(root)
    broken = 0
    for number, path in enumerate(paths, start=1):
        try:
            compile((root / path).read_bytes(), str(path), "exec")
        except (SyntaxError, ValueError) as error:
            broken += 1
            print(f"{path}: {error}", file=sys.stderr)
        if number % FILES_PER_REPORT == 0:
            print(f"::progress {number / len(paths):.2f} {path}", flush=True)
    print(f"{len(paths) - broken} of {len(paths)} files compile")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
