"""The outcome of an attempt as it is stored: checked output, an error for clients, a traceback for operators."""

from __future__ import annotations

import json
import traceback
from typing import Any, Final

from orchestration.limits import EngineLimits
from orchestration.sdk.json_values import to_builtins
from orchestration.sdk.stage_errors import StageFailed
from orchestration.secret_mask import masked, masked_json
from orchestration.services.validation import InvalidArgument, json_object
from orchestration.text import storable, text_of, truncate, truncate_start


class BadOutput(StageFailed):
    """A stage returned a value that cannot be stored."""

    def __init__(self, message: str) -> None:
        super().__init__(message, may_retry=False)


def checked_output(output: Any, *, max_bytes: int, returned_by: str = "The stage") -> Any:
    """Return the output as it will be read back from JSON, without the secrets of the run.

    Args:
        output: The output.
        max_bytes: Its largest size as JSON.
        returned_by: What returned it, for errors.

    Raises:
        BadOutput: if it cannot be encoded as JSON, or larger than `max_bytes` as JSON.
    """
    try:
        output, encoded = _as_json(masked_json(output))
        size_bytes = len(encoded.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise BadOutput(f"{returned_by} returned {_kind(output)}, which is not JSON: {error}") from error
    if size_bytes > max_bytes:
        raise BadOutput(
            f"{returned_by} returned {size_bytes} bytes of JSON; at most {max_bytes} are stored. "
            "Store the data elsewhere and return its location."
        )
    try:
        return json_object("output", {"output": output})["output"]
    except InvalidArgument as error:
        raise BadOutput(f"{returned_by} returned a value that cannot be stored: expected {error.expected}") from error


def _as_json(output: Any) -> tuple[Any, str]:
    """Return the output as JSON data, and its text. Dataclasses, models, dates and the like are encoded."""
    try:
        return output, _encode(output)
    except TypeError as error:
        try:
            output = to_builtins(output, with_secrets=False)
        except Exception:
            raise error from None  # It says which value is not JSON.
        output = masked_json(output)
        return output, _encode(output)


_encode: Final = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode


def error_for_clients(error: BaseException, limits: EngineLimits) -> str:
    """Return the type and the message of an error on one line, without a traceback. A `StageFailed` omits the type."""
    try:
        message = masked(str(error))
    except Exception:
        message = ""  # Its `__str__` raises.
    line = " ".join(storable(message).split())
    text = line if isinstance(error, StageFailed) and line else f"{type(error).__name__}: {line}".rstrip(": ")
    return truncate(text, limits.max_error_characters)


def traceback_for_operators(error: BaseException, limits: EngineLimits) -> str:
    """Return the traceback, or the details of a `StageFailed`; the beginning is cut if it is too long."""
    details = error.details if isinstance(error, StageFailed) else None
    text = "" if details is None else text_of(details)
    if not text:
        text = "".join(traceback.format_exception(error))
    return truncate_start(storable(masked(text)), limits.max_traceback_characters)


def _kind(value: object) -> str:
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "aeiouAEIOU" else f"a {kind}"
