"""Suggest the known name that a misspelled one may stand for."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from typing import Final

MAX_KNOWN_NAMES: Final = 2000
"""How many known names are compared. A comparison takes about 10 µs."""

MAX_NAME_CHARACTERS: Final = 200
"""A longer name has no suggestion: the time of a comparison grows with the square of its length."""


def similar_names(name: str, known: Iterable[str], *, limit: int = 1, min_similarity: float = 0.6) -> list[str]:
    """Return at most `limit` known names that are similar to `name`, the most similar one first. Case is ignored.

    `min_similarity` is the ratio of `difflib`: 1 for equal names.
    """
    if len(name) > MAX_NAME_CHARACTERS:
        return []
    by_lower = {each.lower(): each for each in itertools.islice(known, MAX_KNOWN_NAMES)}
    return [
        by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=limit, cutoff=min_similarity)
    ]


def did_you_mean(names: Iterable[str]) -> str:
    """Return a sentence that suggests these names, with a space before it; an empty text if there are none."""
    listed = " or ".join(names)
    return f" Did you mean {listed}?" if listed else ""
