"""Convert JSON data to annotated types, with msgspec. Models of pydantic are accepted too, without importing it."""

from __future__ import annotations

import enum
import inspect
import re
import reprlib
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import msgspec

from orchestration.sdk.json_values import decode
from orchestration.sdk.unknown_fields import find_unknown_field
from orchestration.secret_mask import masked, masked_json
from orchestration.text import text_of

_KIND_ONLY: Final = re.compile(r"Expected `[^`]*`, got `[^`]*`")
"""An error of msgspec that adds nothing to the annotation and the value."""


class Mismatch(Exception):
    """A value does not fit an annotation.

    Attributes:
        value: The value.
        detail: Where the value differs from it, and how; empty if it does as a whole.
        expected: The annotation, and where the value differs from it if that is inside.
    """

    def __init__(self, value: Any, annotation: Any, detail: str = "") -> None:
        self.value = masked_json(value)
        self.detail = masked(detail)
        self.expected = f"{describe(annotation)}{f' ({masked(detail)})' if detail else ''}"
        super().__init__(self.value, self.expected)

    def __str__(self) -> str:
        return f"{reprlib.repr(self.value)}; expected {self.expected}"


def convert(value: Any, annotation: Any) -> Any:
    """Return a value as the annotation describes it; unchanged if msgspec does not know the annotation.

    Raises:
        Mismatch: if it does not fit.
    """
    if annotation is Any:
        return value
    try:
        return msgspec.convert(value, annotation, dec_hook=decode, str_keys=True)
    except msgspec.ValidationError as error:
        detail = " ".join(str(error).split())
        raise Mismatch(value, annotation, "" if _KIND_ONLY.fullmatch(detail) else detail) from None
    except (TypeError, NameError, NotImplementedError, RecursionError):
        return value  # msgspec does not know the annotation.
    except Exception as error:
        # A type's own code, such as `__post_init__`, may raise anything.
        raise Mismatch(value, annotation, f"{type(error).__name__}: {text_of(error)}") from error


def convert_strictly(value: Any, annotation: Any) -> Any:
    """Return a value as `convert` does; reject fields too that a dataclass or a TypedDict does not have.

    Raises:
        Mismatch: if it does not fit.
    """
    converted = convert(value, annotation)
    if unknown := find_unknown_field(value, annotation):
        raise Mismatch(value, annotation, unknown)
    return converted


def evaluated(annotation: Any, function: Callable[..., Any]) -> Any:
    """Return an annotation of a function, which may be a text; `Any` if there is none, or it cannot be evaluated."""
    if annotation is inspect.Parameter.empty:
        return Any
    namespace = getattr(inspect.unwrap(function), "__globals__", {})
    holder = SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, namespace, include_extras=True)["it"]
    except Exception:
        return Any  # It is for type checkers only: it may be any expression, with names that do not exist at run time.


def describe(annotation: Any) -> str:
    """Return an annotation as it is written, and the values of an enumeration."""
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return f"one of {', '.join(repr(each.value) for each in annotation)}"
    return inspect.formatannotation(annotation).replace("typing.", "")
