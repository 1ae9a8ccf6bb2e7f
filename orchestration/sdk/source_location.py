"""Find the line of a user's code that caused an error: the last one outside the libraries that it called."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path


def source_location(error: BaseException, *, is_own: Callable[[str], bool]) -> str:
    """Return a file and a line: the last entry of the traceback in a user's file, or else its last entry.

    Args:
        error: Raised by the user's code, or by Python while it compiles that code.
        is_own: Returns whether the user wrote the file of this name.
    """
    if isinstance(error, SyntaxError) and Path(error.filename or "").is_file():
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    last = next((frame for frame in reversed(frames) if is_own(frame.filename)), frames[-1])
    return f"{last.filename}, line {last.lineno}"
