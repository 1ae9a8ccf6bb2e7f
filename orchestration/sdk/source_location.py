"""Where a user's own code went wrong: the last line that was in it, and not in a library that it called."""

from __future__ import annotations

import traceback
from collections.abc import Callable


def source_location(error: BaseException, *, is_own: Callable[[str], bool]) -> str:
    """Name a file and a line: the last in the traceback whose file is the user's own, or else the very last.

    Args:
        error: Raised by the user's code, or by Python for it.
        is_own: Tells of a file's name whether the user wrote it.
    """
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    last = next((frame for frame in reversed(frames) if is_own(frame.filename)), frames[-1])
    return f"{last.filename}, line {last.lineno}"
