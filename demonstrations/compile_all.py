"""`python -m demonstrations.compile_all FOLDER`: a program for the adapter `command`, which tells its progress."""

from __future__ import annotations

import sys
from pathlib import Path

from demonstrations.source_files import python_files

TOLD_EVERY = 25


def main() -> None:
    root = Path(sys.argv[1])
    paths = python_files(root)
    broken = 0
    for number, path in enumerate(paths, start=1):
        try:
            compile((root / path).read_bytes(), str(path), "exec")
        except (SyntaxError, ValueError) as error:
            broken += 1
            print(f"{path}: {error}", file=sys.stderr)
        if number % TOLD_EVERY == 0:
            print(f"::progress {number / len(paths):.2f} {path}", flush=True)
    print(f"{len(paths) - broken} of {len(paths)} files compile")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
