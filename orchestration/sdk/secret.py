"""`Secret`: marks a parameter whose value only the stages of its run receive."""

from __future__ import annotations

import typing
from typing import Any, Final

_RECORDS: Final = (
    *("__dataclass_fields__", "__struct_fields__", "__attrs_attrs__", "__total__"),
    *("model_fields", "_fields"),
)
"""An attribute that each kind of class with typed fields has."""


class Secret:
    """Marks a secret parameter: `api_key: Annotated[str, Secret()]`. For type checkers it is a `str`.

    Stages receive the value. Wherever else parameters are stored or shown, and in the texts and outputs of the run, is
    `***`. A parameter whose type contains a secret is a secret as a whole.
    """

    def __repr__(self) -> str:
        return "Secret()"


def is_secret(annotation: Any) -> bool:
    """Return whether an annotation is, or contains, one that is marked with `Secret`, or a `SecretStr` of pydantic."""
    return _contains_secret(annotation, set())


def _contains_secret(annotation: Any, seen: set[int]) -> bool:
    if id(annotation) in seen:
        return False
    seen.add(id(annotation))
    if any(isinstance(each, Secret) or each is Secret for each in getattr(annotation, "__metadata__", ())):
        return True
    if isinstance(annotation, type):
        if annotation.__module__.startswith("pydantic") and hasattr(annotation, "get_secret_value"):
            return True
        if any(hasattr(annotation, name) for name in _RECORDS):
            return any(_contains_secret(each, seen) for each in _fields(annotation))
    return any(_contains_secret(each, seen) for each in typing.get_args(annotation))


def _fields(kind: type) -> list[Any]:
    try:
        return list(typing.get_type_hints(kind, include_extras=True).values())
    except Exception:
        return []  # Names that exist for type checkers only.
