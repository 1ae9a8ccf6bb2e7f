"""Find fields that a dataclass or a TypedDict does not have. msgspec drops them, and has no option to reject them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from msgspec import inspect as types

_SEQUENCES: Final = (
    types.ListType,
    types.VarTupleType,
    types.SetType,
    types.FrozenSetType,
    types.CollectionType,
)


def find_unknown_field(value: Any, annotation: Any) -> str:
    """Return the first unknown field of a value that fits the annotation, its place and the known fields.

    Empty if there is none, or if msgspec does not know the annotation. Fields of a `Struct` are not checked: its option
    `forbid_unknown_fields` does that.
    """
    with suppress(TypeError, NameError, NotImplementedError, RecursionError):
        return next(_unknown_fields(value, types.type_info(annotation), "$"), "")
    return ""


def _unknown_fields(value: Any, kind: types.Type, path: str) -> Iterator[str]:
    if isinstance(kind, types.Metadata):
        yield from _unknown_fields(value, kind.type, path)
    elif isinstance(kind, types.UnionType):
        for each in kind.types:
            yield from _unknown_fields(value, each, path)
    elif isinstance(kind, types.DataclassType | types.TypedDictType | types.StructType):
        if isinstance(value, Mapping):
            yield from _unknown_fields_of_object(value, kind, path)
    elif isinstance(kind, types.DictType):
        if isinstance(value, Mapping):
            for key, item in value.items():
                yield from _unknown_fields(item, kind.value_type, f"{path}[{key!r}]")
    else:
        for number, (item, item_kind) in enumerate(_items(value, kind)):
            yield from _unknown_fields(item, item_kind, f"{path}[{number}]")


def _unknown_fields_of_object(
    value: Mapping[Any, Any], kind: types.DataclassType | types.TypedDictType | types.StructType, path: str
) -> Iterator[str]:
    known = {field.encode_name: field.type for field in kind.fields}
    if isinstance(kind, types.StructType):
        if kind.tag_field is not None and value.get(kind.tag_field) != kind.tag:
            return  # It is another member of a union.
    elif unknown := [name for name in value if name not in known]:
        place = "" if path == "$" else f" at `{path}`"
        yield f"Object contains unknown field {unknown[0]!r}{place}; its fields: {', '.join(known) or 'none'}"
    for name, item_kind in known.items():
        if name in value:
            yield from _unknown_fields(value[name], item_kind, f"{path}.{name}")


def _items(value: Any, kind: types.Type) -> Iterator[tuple[Any, types.Type]]:
    """Yield the items of a sequence with their types; none if it is none."""
    if not isinstance(value, list | tuple | set | frozenset):
        return
    if isinstance(kind, _SEQUENCES):
        yield from ((item, kind.item_type) for item in value)
    elif isinstance(kind, types.TupleType):
        yield from zip(value, kind.item_types, strict=False)
    elif isinstance(kind, types.NamedTupleType):
        yield from zip(value, (field.type for field in kind.fields), strict=False)
