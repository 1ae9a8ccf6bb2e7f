"""Numbers on the command line: one that cannot be used is refused with what was expected."""

from __future__ import annotations

import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import fields

from realtime.limits import Limits


def whole_number(*, minimum: int, maximum: int) -> Callable[[str], int]:
    """A `type` of an argument: a whole number within these bounds, both allowed."""

    def parse(text: str) -> int:
        # Not int(): it takes "1_000" and digits of every script.
        if re.fullmatch(r"-?[0-9]{1,18}", text) and minimum <= int(text) <= maximum:
            return int(text)
        raise ArgumentTypeError(f"{text!r}: expected a whole number from {minimum} to {maximum}")

    return parse


def number(*, minimum: float, maximum: float) -> Callable[[str], float]:
    """The same for any number."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        # Nothing compares with NaN, so it is refused here as well.
        if minimum <= value <= maximum:
            return value
        raise ArgumentTypeError(f"{text!r}: expected a number from {minimum:.15g} to {maximum:.15g}")

    return parse


def bounds_of(limit: str) -> dict[str, float]:
    """`minimum` and `maximum` of a field of `Limits`."""
    metadata = next(field.metadata for field in fields(Limits) if field.name == limit)
    return {"minimum": metadata["minimum"], "maximum": metadata["maximum"]}
