"""Our daphne protocol class. (To come: the direct frame path.)"""

from __future__ import annotations


def install() -> None:
    """Make daphne use our protocol class."""
