"""The program `curl` of the documented command lines: that of the machine or, where it has none, this module.

A fresh machine needs no more than Python and make.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

HTTP_ERROR_EXIT_CODE = 22


def curl(folder: Path) -> str:
    """Return the path of a program with the options of `curl` that are documented. `folder` is where it may be made."""
    installed = shutil.which("curl")
    return str(stand_in(folder)) if installed is None else installed


def stand_in(folder: Path) -> Path:
    """Make a program that runs this module."""
    path = folder / "curl"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "$@"\n', encoding="utf-8")
    path.chmod(0o700)
    return path


def main(arguments: Sequence[str]) -> int:
    """Send one request and print the answer. Return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", "--silent", action="store_true")
    parser.add_argument("-S", "--show-error", action="store_true")
    parser.add_argument("--fail-with-body", action="store_true")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("-d", "--data")
    parser.add_argument("-X", "--request")
    parser.add_argument("url")
    given = parser.parse_args(arguments)
    data = None if given.data is None else given.data.encode()
    headers = dict(header.split(": ", 1) for header in given.header)
    request = urllib.request.Request(given.url, data, headers, method=given.request)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            print(answer.read().decode(), end="")
    except urllib.error.HTTPError as error:
        with error:
            print(error.read().decode(), end="")
        return HTTP_ERROR_EXIT_CODE if given.fail_with_body else 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
