"""Values of parameters as JSON data, and back."""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from orchestration.services.validation import json_object

MISSING: Final = object()
"""Stands for a value that does not exist."""


def as_stored(value: Any) -> Any:
    """Return a value as it will be read back from JSON; `MISSING` if it cannot be stored."""
    try:
        return json_object("params", {"value": to_builtins(value)})["value"]
    except Exception:
        return MISSING  # It may be any object, whose copy may raise anything.


def is_same(value: Any, stored: Any) -> bool:
    """Compare a value with JSON. Unlike `==`, this distinguishes 1 from true."""
    return type(value) is type(stored) and value == stored and repr(value) == repr(stored)


@dataclass
class _Holder:
    value: Any


def to_builtins(value: Any) -> Any:
    """Return a value as JSON data, the same in every process: the items of sets are sorted.

    Raises:
        TypeError: if it cannot be stored.
    """
    # msgspec leaves out the fields of a dataclass that have their default.
    value = dataclasses.asdict(_Holder(value))["value"]
    return msgspec.to_builtins(_with_lists(value), enc_hook=_encode, str_keys=True)


def _with_lists(value: Any) -> Any:
    """Return a value with a sorted list for each set. msgspec sorts only sets whose items can be compared."""
    if isinstance(value, set | frozenset):
        items = [to_builtins(item) for item in value]
        try:
            return sorted(items)
        except TypeError:
            return sorted(items, key=json.dumps)
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_lists(item) for item in value]
    if isinstance(value, msgspec.Struct):
        value = copy.copy(value)
        for name in value.__struct_fields__:
            msgspec.structs.force_setattr(value, name, _with_lists(getattr(value, name)))
    return value


def _encode(value: Any) -> str:
    if not isinstance(value, Path):
        raise TypeError(f"{type(value).__name__} is not JSON")
    return str(value)


def decode(kind: type, value: Any) -> Any:
    """Return JSON data as a type that msgspec does not know: its `dec_hook`."""
    if kind is not Path:
        raise NotImplementedError
    if not isinstance(value, str | Path):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    return Path(value)
