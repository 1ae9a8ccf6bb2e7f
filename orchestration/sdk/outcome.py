"""What became of an attempt, as it is stored: an output that is JSON and not too large, or an error in clean words."""

from __future__ import annotations

import json
import traceback
from typing import Any

from orchestration.limits import EngineLimits
from orchestration.sdk.adapter import StageFailed
from orchestration.sdk.context import printable, shortened
from orchestration.services.validation import InvalidArgument, json_object


class BadOutput(StageFailed):
    """A stage returned what cannot be stored."""

    def __init__(self, message: str) -> None:
        super().__init__(message, may_retry=False)


def checked_output(output: Any, *, max_bytes: int) -> Any:
    """Return the output as it will be read back from JSON.

    Raises:
        BadOutput: it is not JSON, or too large.
    """
    try:
        encoded = json.dumps(output, allow_nan=False, ensure_ascii=False)
        size_bytes = len(encoded.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise BadOutput(f"The stage returned {_kind(output)}, which is not JSON: {error}") from error
    if size_bytes > max_bytes:
        raise BadOutput(
            f"The stage returned {size_bytes} bytes of JSON: at most {max_bytes} are stored. "
            "Store it elsewhere and return where."
        )
    try:
        return json_object("output", {"output": output})["output"]
    except InvalidArgument as error:
        raise BadOutput(f"The stage returned what cannot be stored: expected {error.expected}") from error


def error_for_clients(error: BaseException, limits: EngineLimits) -> str:
    """Say in one line what went wrong: the kind of error and its own words, and nothing of where it happened."""
    try:
        words = str(error)
    except Exception:
        words = ""  # An exception that cannot even say what it is.
    line = " ".join(printable(words).split())
    text = line if isinstance(error, StageFailed) and line else f"{type(error).__name__}: {line}".rstrip(": ")
    return shortened(text, limits.max_error_characters)


def traceback_for_operators(error: BaseException, limits: EngineLimits) -> str:
    """Return the whole story, its end rather than its beginning if it is too long."""
    if isinstance(error, StageFailed) and error.details:
        text = error.details
    else:
        text = "".join(traceback.format_exception(error))
    text = printable(text)
    return text if len(text) <= limits.max_traceback_characters else f"…{text[1 - limits.max_traceback_characters :]}"


def _kind(value: object) -> str:
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "aeiouAEIOU" else f"a {kind}"
