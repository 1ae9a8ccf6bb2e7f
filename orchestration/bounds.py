"""Numbers that somebody may set, each with the bounds that it must keep within."""

from __future__ import annotations

import math
import re
from dataclasses import field

KIB = 1024
MIB = 1024 * KIB


def bounded(default: float, *, minimum: float, maximum: float, help: str) -> float:
    """A dataclass field whose value must lie between `minimum` and `maximum`, both allowed."""
    return field(default=default, metadata={"minimum": minimum, "maximum": maximum, "help": help})


def counted(default: int, *, minimum: int, maximum: int, help: str) -> int:
    """The same as `bounded`, for whole numbers."""
    return field(default=default, metadata={"minimum": minimum, "maximum": maximum, "help": help})


class OutOfBounds(ValueError):
    """Raised for a text that is not the number wanted; the message completes "expected …"."""


def whole_number_within(text: str, *, minimum: int, maximum: int) -> int:
    """Read a whole number within these bounds, both allowed.

    Raises:
        OutOfBounds
    """
    # Not int(): it takes "1_000" and digits of every script.
    if re.fullmatch(r"-?[0-9]{1,18}", text) and minimum <= int(text) <= maximum:
        return int(text)
    raise OutOfBounds(f"a whole number from {minimum} to {maximum}")


def number_within(text: str, *, minimum: float, maximum: float) -> float:
    """The same for any number."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    # Nothing compares with NaN, so it is refused here as well.
    if minimum <= number <= maximum:
        return number
    raise OutOfBounds(f"a number from {minimum:.15g} to {maximum:.15g}")
