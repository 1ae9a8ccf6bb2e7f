"""Fit a user's text to the database: replace what it cannot store, and cut what is too long."""

from __future__ import annotations

from typing import Final

ELLIPSIS: Final = "…"
"""Marks the end at which a text was cut. It counts towards the limit."""


def truncate(text: str, max_characters: int) -> str:
    """Return the text, or its beginning if it is longer than `max_characters`."""
    return text if len(text) <= max_characters else text[: max_characters - 1] + ELLIPSIS


def truncate_start(text: str, max_characters: int) -> str:
    """Return the text, or its end if it is longer than `max_characters`; a traceback has the error at its end."""
    return text if len(text) <= max_characters else ELLIPSIS + text[len(text) - max_characters + 1 :]


def storable(text: str) -> str:
    """Return the text with NUL and lone surrogates replaced: no database column can store them."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
