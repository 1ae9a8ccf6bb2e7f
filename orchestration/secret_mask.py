"""Replace secrets in texts, in chunks of streams, in JSON data and in log records.

What hides secrets is either the stage that this process runs (`hide`: for all threads, until the next call), or a block
(`hidden`: for this thread or task only, as many runs may start at once).
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple
from urllib.parse import quote, quote_plus

MASK: Final = "***"
"""What is stored and shown in place of a secret."""

_MASK_BYTES: Final = MASK.encode()

MIN_CHARACTERS: Final = 4
"""A shorter text occurs in others by chance: it is not replaced there."""


class _Secrets(NamedTuple):
    """The texts to replace, and a pattern that finds them: the longest first, as one may contain another."""

    texts: list[str]
    pattern: re.Pattern[str]


_of_process: _Secrets | None = None
_of_block: ContextVar[_Secrets | None] = ContextVar("_of_block", default=None)
_next_factory: Any = None


def hide(secrets: Iterable[Any]) -> None:
    """Replace these values from now on, in this process, in place of those of an earlier call."""
    global _of_process
    _of_process = _find_secrets(secrets)
    _replace_in_logs(_of_process is not None)


@contextmanager
def hidden(secrets: Iterable[Any]) -> Iterator[None]:
    """Replace these values in the block."""
    token = _of_block.set(_find_secrets(secrets))
    try:
        yield
    finally:
        _of_block.reset(token)


def masked(text: str) -> str:
    """Return a text without secrets. Call this before a text is cut: a part of a secret would not be found."""
    for each in (_of_process, _of_block.get()):
        if each is not None:
            text = each.pattern.sub(MASK, text)
    return text


def masked_json(value: Any) -> Any:
    """Return JSON data without secrets."""
    if _of_process is None and _of_block.get() is None:
        return value
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {masked_json(key): masked_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked_json(item) for item in value]
    if isinstance(value, tuple):
        return tuple(masked_json(item) for item in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if masked(text := json.dumps(value)) == text else MASK
    return value


def contains_secret(value: Any) -> bool:
    """Return whether JSON data contains a secret."""
    return bool(masked_json(value) != value)


def contains_mask(value: Any) -> bool:
    """Return whether a text in JSON data is the mask, which stands for a secret while some are hidden."""
    is_active = _of_process is not None or _of_block.get() is not None
    return is_active and _has_mask(value)


def _has_mask(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_mask(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_has_mask(item) for item in value)
    return bool(value == MASK)


class ChunkMask:
    """Replaces the secrets that are hidden when it is made, in bytes or in the UTF-8 of a text that come in chunks.

    The end of a chunk that may be the beginning of a secret is held back until more is known. So all chunks together
    are what `masked` returns for the whole, and the cost of a chunk is in proportion to it and to what is held back.
    """

    def __init__(self) -> None:
        hidden_now = (each for each in (_of_process, _of_block.get()) if each is not None)
        self._secrets = sorted({text.encode(errors="replace") for each in hidden_now for text in each.texts})
        longest_first = sorted(self._secrets, key=len, reverse=True)
        self._longest_bytes = len(longest_first[0]) if longest_first else 0
        self._pattern = re.compile(b"|".join(map(re.escape, longest_first)))
        self._first_byte = re.compile(b"|".join({re.escape(each[:1]) for each in self._secrets}))
        self._held = b""

    def push(self, data: bytes) -> bytes:
        """Return what follows on the chunks before, without secrets. Of a text, these are whole characters."""
        if not self._secrets:
            return data
        data = self._held + data
        parts: list[bytes] = []
        end, held_from = 0, self._find_beginning(data, 0)
        for match in self._pattern.finditer(data):
            if match.start() >= held_from:
                break
            parts += data[end : match.start()], _MASK_BYTES
            end = match.end()
            if held_from < end:
                held_from = self._find_beginning(data, end)
        parts.append(data[end:held_from])
        self._held = data[held_from:]
        return b"".join(parts)

    def flush(self) -> bytes:
        """Return what is held back, when nothing follows."""
        held, self._held = self._held, b""
        return self._pattern.sub(_MASK_BYTES, held) if held else b""

    def _find_beginning(self, data: bytes, start: int) -> int:
        """Return the first position from which on the data are the beginning of a secret; their end if there is none.

        Where a secret ends at the end of the data, another one that begins with it may still follow.
        """
        start = max(start, len(data) - self._longest_bytes + 1)
        for match in self._first_byte.finditer(data, start):
            rest = data[match.start() :]
            next_secret = bisect_right(self._secrets, rest)
            if next_secret < len(self._secrets) and self._secrets[next_secret].startswith(rest):
                return match.start()
        return len(data)


def _find_secrets(secrets: Iterable[Any]) -> _Secrets | None:
    found = {form for secret in secrets for text in _texts(secret) for form in _forms(text)}
    texts = sorted((form for form in found if len(form) >= MIN_CHARACTERS), key=len, reverse=True)
    return _Secrets(texts, re.compile("|".join(map(re.escape, texts)))) if texts else None


def _texts(value: Any) -> Iterator[str]:
    """Yield each text and number in JSON data. The names of fields are no secrets."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield json.dumps(value)


def _forms(text: str) -> Iterator[str]:
    """Yield a text as it may appear in others: in JSON, in a `repr`, in an address, on one line, or line by line."""
    yield from (text, text.strip(), " ".join(text.split()))
    yield from (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1])
    address = text.encode("utf-8", "replace")
    yield from (quote(address, safe=""), quote(address), quote_plus(address))
    yield from (line.strip() for line in text.splitlines())


def _replace_in_logs(is_active: bool) -> None:
    global _next_factory
    current = logging.getLogRecordFactory()
    if is_active and current is not _masked_record:
        _next_factory = current
        logging.setLogRecordFactory(_masked_record)
    elif not is_active and current is _masked_record:
        logging.setLogRecordFactory(_next_factory)


def _masked_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record: logging.LogRecord = _next_factory(*args, **kwargs)
    try:
        message = record.getMessage()
    except Exception:
        return record  # The handler reports it.
    if (safe := masked(message)) != message:
        record.msg, record.args = safe, None
    if record.exc_info and record.exc_info[1] is not None:
        text = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n")
        if (safe := masked(text)) != text:
            record.exc_text = safe  # A formatter uses it in place of the exception.
    return record
