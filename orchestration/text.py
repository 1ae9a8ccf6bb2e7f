"""Make a user's text fit for its destination: a database column, one line of a log, a page, or another program."""

from __future__ import annotations

import os
import re
from typing import Final

ELLIPSIS: Final = "…"
"""Marks the end at which a text was cut. It counts towards the limit."""


def text_of(value: object) -> str:
    """Return `str(value)`, or only the type of a value whose `__str__` raises."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


def truncate(text: str, max_characters: int) -> str:
    """Return the text, or its beginning if it is longer than `max_characters`."""
    return text if len(text) <= max_characters else text[: max_characters - 1] + ELLIPSIS


def truncate_start(text: str, max_characters: int) -> str:
    """Return the text, or its end if it is longer than `max_characters`; a traceback has the error at its end."""
    return text if len(text) <= max_characters else ELLIPSIS + text[len(text) - max_characters + 1 :]


def storable(text: str) -> str:
    """Return the text with NUL and lone surrogates replaced: no database column can store them."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


_HIDDEN: Final = (
    r"\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Characters that control a terminal, end a line, reorder text or are invisible, as ranges of a regular expression.

These are the categories Cc, Cs, Zl and Zp of Unicode, and what is in Cf or has the property Default_Ignorable. Not
included are the joiners U+200C and U+200D and the variation selectors U+FE00 to U+FE0F, which emoji and many scripts
need, and the format characters of Arabic, Syriac, Kaithi and Egyptian, which are visible.
"""

_HIDDEN_IN_LINE: Final = re.compile(f"[{_HIDDEN}]")
_HIDDEN_IN_TEXT: Final = re.compile(rf"(?![\n\t])[{_HIDDEN}]")
_SHORT_ESCAPES: Final = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def escape_line(text: str) -> str:
    r"""Return the text on one line: each character that is hidden or ends a line is an escape, such as `\u202e`.

    A backslash stays as it is: the result is for people, and cannot be decoded.
    """
    return _HIDDEN_IN_LINE.sub(_escape, text)


def escape_text(text: str) -> str:
    """Return the text with each hidden character as an escape. Line breaks and tabs stay."""
    return _HIDDEN_IN_TEXT.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    if code < 0x100:
        return _SHORT_ESCAPES.get(character, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def escape_json(text: str, *, ascii_only: bool) -> str:
    r"""Return JSON text with each hidden character as an escape, such as `\\u202e`. Its value is the same.

    Args:
        text: JSON text.
        ascii_only: Whether every character outside of ASCII becomes an escape.
    """
    return (_NOT_ASCII if ascii_only else _HIDDEN_IN_LINE).sub(_escape_in_json, text)


_NOT_ASCII: Final = re.compile(r"[\x7f-\U0010ffff]")


def _escape_in_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[first : first + 4]}" for first in range(0, len(units), 4))


def argument_text(argument: str) -> str:
    """Return a command-line argument as text. In a locale without UTF-8, Python leaves half surrogate pairs in it.

    Raises:
        UnicodeDecodeError: if it is not text in the locale's encoding, and not in UTF-8 either.
    """
    try:
        argument.encode()
    except UnicodeEncodeError:
        return os.fsencode(argument).decode("utf-8")
    return argument


def argument_bytes(text: str) -> bytes:
    """Return text as an argument, a variable or a path of another program: in the locale's encoding, else in UTF-8."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")
