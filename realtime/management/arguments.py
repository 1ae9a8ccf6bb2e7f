"""Types of command-line arguments: numbers within bounds."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import TypeVar

from orchestration.bounds import OutOfBounds, number_within, whole_number_within
from realtime.limits import Limits

Number = TypeVar("Number", int, float)


def whole_number(*, minimum: int, maximum: int) -> Callable[[str], int]:
    """Return an argument type for whole numbers from `minimum` to `maximum`."""
    return _argument(partial(whole_number_within, minimum=minimum, maximum=maximum))


def number(*, minimum: float, maximum: float) -> Callable[[str], float]:
    """Return an argument type for numbers from `minimum` to `maximum`."""
    return _argument(partial(number_within, minimum=minimum, maximum=maximum))


def _argument(parse: Callable[[str], Number]) -> Callable[[str], Number]:
    def parse_argument(text: str) -> Number:
        try:
            return parse(text)
        except OutOfBounds as error:
            raise ArgumentTypeError(f"{text!r}: expected {error}") from None

    return parse_argument


def bounds_of(limit: str) -> dict[str, float]:
    """Return the `minimum` and `maximum` of a field of `Limits`."""
    metadata = next(field.metadata for field in fields(Limits) if field.name == limit)
    return {"minimum": metadata["minimum"], "maximum": metadata["maximum"]}
