"""Values of parameters as JSON data, and back."""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from orchestration.secret_mask import MASK
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


def to_builtins(value: Any, *, with_secrets: bool = True) -> Any:
    """Return a value as JSON data, the same in every process: the items of sets are sorted.

    Args:
        value: The value.
        with_secrets: Whether a `SecretStr` of pydantic is its value; otherwise it is the mask.

    Raises:
        TypeError: if it cannot be stored.
    """
    # msgspec leaves out the fields of a dataclass that have their default.
    value = dataclasses.asdict(_Holder(value))["value"]
    encode = partial(_encode, with_secrets=with_secrets)
    return msgspec.to_builtins(_with_lists(value, with_secrets), enc_hook=encode, str_keys=True)


def _with_lists(value: Any, with_secrets: bool) -> Any:
    """Return a value with a sorted list for each set. msgspec sorts only sets whose items can be compared."""
    if isinstance(value, set | frozenset):
        items = [to_builtins(item, with_secrets=with_secrets) for item in value]
        try:
            return sorted(items)
        except TypeError:
            return sorted(items, key=json.dumps)
    if isinstance(value, dict):
        return {key: _with_lists(item, with_secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_lists(item, with_secrets) for item in value]
    if isinstance(value, msgspec.Struct):
        value = copy.copy(value)
        for name in value.__struct_fields__:
            msgspec.structs.force_setattr(value, name, _with_lists(getattr(value, name), with_secrets))
    return value


def _encode(value: Any, *, with_secrets: bool) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, type):
        raise TypeError("A class is not JSON")
    if is_model(type(value)):
        return to_builtins(value.model_dump(by_alias=True), with_secrets=with_secrets)
    if type(value).__module__.startswith("pydantic"):
        # `SecretStr`, and types such as `AnyUrl`.
        reveal = getattr(value, "get_secret_value", None)
        if reveal is None:
            return str(value)
        return reveal() if with_secrets else MASK
    raise TypeError(f"{type(value).__name__} is not JSON")


def decode(kind: type, value: Any) -> Any:
    """Return JSON data as a type that msgspec does not know: its `dec_hook`."""
    if is_model(kind):
        return _validated(kind, value)
    if kind is not Path:
        raise NotImplementedError
    if not isinstance(value, str | Path):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    return Path(value)


def is_model(kind: Any) -> bool:
    """Return whether a type is a model of pydantic, which need not be installed."""
    return isinstance(kind, type) and hasattr(kind, "model_validate") and hasattr(kind, "model_fields")


def is_input_class(inputs: Any) -> bool:
    """Return whether a class has typed fields, such as a dataclass or a model."""
    names = ("__dataclass_fields__", "__attrs_attrs__", "__struct_fields__", "__total__")
    return isinstance(inputs, type) and (is_model(inputs) or any(hasattr(inputs, name) for name in names))


def _validated(model: Any, value: Any) -> Any:
    """Return a model of pydantic.

    Raises:
        ValueError: with the place and the expectation of each error, without the values.
    """
    try:
        return model.model_validate(value)
    except ValueError as error:
        errors = getattr(error, "errors", None)
        if errors is None:
            raise
        found = errors(include_url=False, include_context=False, include_input=False)
        raise ValueError("; ".join(f"`{'.'.join(map(str, each['loc']))}`: {each['msg']}" for each in found)) from None
