"""Numeric options and the bounds of their values. Pure: no Django."""

from __future__ import annotations

import math
import re
from dataclasses import field

KIB = 1024
MIB = 1024 * KIB


def bounded(default: float, *, minimum: float, maximum: float, help: str) -> float:
    """Declare a dataclass field with a value from `minimum` to `maximum`, both included."""
    return field(default=default, metadata={"minimum": minimum, "maximum": maximum, "help": help})


def counted(default: int, *, minimum: int, maximum: int, help: str) -> int:
    """Declare a dataclass field with a whole number from `minimum` to `maximum`, both included."""
    return field(default=default, metadata={"minimum": minimum, "maximum": maximum, "help": help})


class OutOfBounds(ValueError):
    """A text is not a number within the bounds. The message completes "expected …"."""


def whole_number_within(text: str, *, minimum: int, maximum: int) -> int:
    """Parse a whole number from `minimum` to `maximum`, both included.

    Raises:
        OutOfBounds: if the text is anything else.
    """
    # `int()` alone would also accept "1_000" and the digits of every script.
    if re.fullmatch(r"-?[0-9]{1,18}", text) and minimum <= int(text) <= maximum:
        return int(text)
    raise OutOfBounds(f"a whole number from {minimum} to {maximum}")


def number_within(text: str, *, minimum: float, maximum: float) -> float:
    """Parse a number from `minimum` to `maximum`, both included.

    Raises:
        OutOfBounds: if the text is anything else.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    # Every comparison with NaN is false, so NaN is rejected too.
    if minimum <= number <= maximum:
        return number
    raise OutOfBounds(f"a number from {minimum:.15g} to {maximum:.15g}")
