"""Types of command-line arguments."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Final

from orchestration.bounds import OutOfBounds, whole_number_within

MAX_DURATION_DAYS: Final = 3650

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> timedelta:
    """Parse a duration such as `30d`, `12h`, `90m` or `45s`.

    Raises:
        ArgumentTypeError: if the text is anything else, or longer than `MAX_DURATION_DAYS`.
    """
    found = re.fullmatch(r"([0-9]{1,12})([smhd])", text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else -1
    if not 0 <= seconds <= MAX_DURATION_DAYS * _SECONDS["d"]:
        raise ArgumentTypeError(
            f"{text!r}: expected a number with s, m, h or d, such as 30d, at most {MAX_DURATION_DAYS}d"
        )
    return timedelta(seconds=seconds)


def count(text: str) -> int:
    """Parse a whole number from 0.

    Raises:
        ArgumentTypeError: if the text is anything else.
    """
    try:
        return whole_number_within(text, minimum=0, maximum=10**12)
    except OutOfBounds as error:
        raise ArgumentTypeError(f"{text!r}: expected {error}") from None
