"""A type annotation as JSON Schema 2020-12: the schema accepts the JSON values that `Parameters.to_store` accepts.

`msgspec.json.schema` says less than msgspec checks: nothing of keys, dates or unknown fields of a dataclass. So this
module reads the description of a type that msgspec has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from msgspec import inspect as types

from orchestration.sdk.json_values import is_model

Schema = dict[str, Any]

_TIME: Final = r"\d{2}:\d{2}:\d{2}(\.\d+)?"
_OFFSET: Final = r"([Zz]|[+-]\d{2}:?\d{2})"
_AMOUNT: Final = r"\d+(\.\d+)?"
_FORMATS: Final[dict[type[types.Type], tuple[str, str]]] = {
    types.DateType: ("date", r"^\d{4}-\d{2}-\d{2}$"),
    types.UUIDType: ("uuid", r"^[0-9A-Fa-f]{8}(-?)[0-9A-Fa-f]{4}\1[0-9A-Fa-f]{4}\1[0-9A-Fa-f]{4}\1[0-9A-Fa-f]{12}$"),
    types.TimeDeltaType: (
        "duration",
        rf"^[+-]?[Pp](?=[\dTt])({_AMOUNT}[Dd])?([Tt](?=\d)({_AMOUNT}[Hh])?({_AMOUNT}[Mm])?({_AMOUNT}[Ss])?)?$",
    ),
}
"""The format of a text and its pattern, because most validators do not check formats."""

_DECIMAL: Final = r"^[+-]?(\d+\.?\d*|\.\d+)([Ee][+-]?\d+)?$"
_BASE64: Final = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_NUMBER_KEYS: Final[dict[type[types.Type], str]] = {
    types.IntType: r"^-?(0|[1-9]\d*)$",
    types.FloatType: r"^-?(0|[1-9]\d*)(\.\d+)?([Ee][+-]?\d+)?$",
}
_BOUNDS: Final = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}
_BYTES: Final = (types.BytesType, types.ByteArrayType, types.MemoryViewType)
_ARRAYS: Final = (
    types.ListType,
    types.VarTupleType,
    types.SetType,
    types.FrozenSetType,
    types.CollectionType,
)
_FIXED: Final[dict[type[types.Type], Schema]] = {
    types.NoneType: {"type": "null"},
    types.BoolType: {"type": "boolean"},
}


class TypeSchemas:
    """The schemas of some annotations, with the classes that they share.

    Attributes:
        classes: The schema of each class, by its name: the `$defs` of a schema that contains the others.
    """

    def __init__(self) -> None:
        self.classes: dict[str, Schema] = {}
        self._names: dict[type, str] = {}

    def of(self, annotation: Any) -> Schema:
        """Return the schema of an annotation; an empty one, which accepts any value, if msgspec does not know it."""
        try:
            return self._of(types.type_info(annotation))
        except (TypeError, NameError, NotImplementedError, RecursionError):
            return {}

    def _of(self, kind: types.Type) -> Schema:
        if isinstance(kind, types.Metadata):
            return {**self._of(kind.type), **(kind.extra_json_schema or {})}
        if type(kind) in _FIXED:
            return dict(_FIXED[type(kind)])
        for handled, schema in self._handlers():
            if isinstance(kind, handled):
                return schema(kind)
        return {}  # Any value, or a class that msgspec does not know.

    def _handlers(self) -> Iterable[tuple[Any, Callable[[Any], Schema]]]:
        return (
            (types.IntType | types.FloatType, _number),
            (types.StrType, _text),
            (_BYTES, lambda kind: {"type": "string", "contentEncoding": "base64", "pattern": _BASE64}),
            (types.DecimalType, lambda kind: {"anyOf": [{"type": "number"}, {"type": "string", "pattern": _DECIMAL}]}),
            (types.DateTimeType | types.TimeType, _moment),
            (tuple(_FORMATS), _formatted),
            (types.LiteralType, lambda kind: {"enum": list(kind.values)}),
            (types.EnumType, lambda kind: self._class(kind.cls, lambda: {"enum": [each.value for each in kind.cls]})),
            (types.UnionType, self._union),
            (_ARRAYS, self._array),
            (types.TupleType, lambda kind: self._positions(kind.item_types, required=len(kind.item_types))),
            (types.NamedTupleType, self._named_tuple),
            (types.DictType, self._mapping),
            (types.StructType | types.DataclassType | types.TypedDictType, self._object),
            (types.CustomType, self._custom),
        )

    def _class(self, cls: type, schema: Callable[[], Schema]) -> Schema:
        """Return a reference to the schema of a class, which may contain itself."""
        if cls not in self._names:
            name, number = cls.__name__, 1
            while name in self.classes:
                number += 1
                name = f"{cls.__name__}_{number}"
            self._names[cls] = name
            self.classes[name] = {}
            self.classes[name] = {"title": cls.__name__, **schema()}
        return {"$ref": f"#/$defs/{self._names[cls]}"}

    def _custom(self, kind: types.CustomType) -> Schema:
        if is_model(kind.cls):
            return self._class(kind.cls, lambda: self._model(kind.cls))
        return {"type": "string"} if kind.cls is Path else {}

    def _model(self, model: Any) -> Schema:
        """Return the schema that pydantic has of a model; the models in it become classes."""
        schema: Schema = model.model_json_schema()
        for name, each in schema.pop("$defs", {}).items():
            self.classes.setdefault(name, each)
        return schema

    def _union(self, kind: types.UnionType) -> Schema:
        schemas = [self._of(each) for each in kind.types]
        structs = [each for each in kind.types if isinstance(each, types.StructType)]
        if len(structs) > 1:
            # Only among others does a struct need its tag.
            for each, schema in zip(kind.types, schemas, strict=True):
                if isinstance(each, types.StructType) and not each.array_like:
                    schema["required"] = [each.tag_field]
        return {"anyOf": schemas}

    def _array(self, kind: Any) -> Schema:
        items = self._of(kind.item_type)
        return {"type": "array", **({"items": items} if items else {}), **_lengths(kind, "Items")}

    def _positions(self, items: Iterable[types.Type], *, required: int) -> Schema:
        schemas = [self._of(each) for each in items]
        return {
            "type": "array",
            **({"prefixItems": schemas} if schemas else {}),
            "minItems": required,
            "maxItems": len(schemas),
        }

    def _named_tuple(self, kind: types.NamedTupleType) -> Schema:
        required = sum(field.required for field in kind.fields)
        return self._class(kind.cls, lambda: self._positions((field.type for field in kind.fields), required=required))

    def _mapping(self, kind: types.DictType) -> Schema:
        schema: Schema = {"type": "object", **_lengths(kind, "Properties")}
        if names := self._keys(kind.key_type):
            schema["propertyNames"] = names
        if values := self._of(kind.value_type):
            schema["additionalProperties"] = values
        return schema

    def _keys(self, kind: types.Type) -> Schema:
        if type(kind) in _NUMBER_KEYS:
            return {"pattern": _NUMBER_KEYS[type(kind)]}
        if isinstance(kind, types.EnumType | types.LiteralType):
            values = kind.values if isinstance(kind, types.LiteralType) else [each.value for each in kind.cls]
            return {"enum": [str(value) for value in values]}
        found = self._of(kind)
        return {} if found == {"type": "string"} else found

    def _object(self, kind: types.StructType | types.DataclassType | types.TypedDictType) -> Schema:
        return self._class(kind.cls, lambda: self._fields(kind))

    def _fields(self, kind: types.StructType | types.DataclassType | types.TypedDictType) -> Schema:
        if isinstance(kind, types.StructType) and kind.array_like:
            tag = [types.LiteralType((kind.tag,))] if kind.tag is not None else []
            required = len(tag) + sum(field.required for field in kind.fields)
            array = self._positions([*tag, *(field.type for field in kind.fields)], required=required)
            if not kind.forbid_unknown_fields:
                del array["maxItems"]
            return array
        properties = {field.encode_name: self._of(field.type) for field in kind.fields}
        required_names = [field.encode_name for field in kind.fields if field.required]
        schema: Schema = {"type": "object", "properties": properties, "required": required_names}
        if isinstance(kind, types.StructType):
            if kind.tag_field is not None:
                schema["properties"] = {kind.tag_field: {"enum": [kind.tag]}, **properties}
            if not kind.forbid_unknown_fields:
                return schema
        return {**schema, "additionalProperties": False}


def _number(kind: types.IntType | types.FloatType) -> Schema:
    bounds = {name: getattr(kind, bound) for bound, name in _BOUNDS.items() if getattr(kind, bound) is not None}
    return {"type": "integer" if isinstance(kind, types.IntType) else "number", **bounds}


def _text(kind: types.StrType) -> Schema:
    pattern = {"pattern": kind.pattern} if kind.pattern is not None else {}
    return {"type": "string", **_lengths(kind, "Length"), **pattern}


def _moment(kind: types.DateTimeType | types.TimeType) -> Schema:
    is_time = isinstance(kind, types.TimeType)
    date, name = ("", "time") if is_time else (r"\d{4}-\d{2}-\d{2}[Tt ]", "date-time")
    offset = {None: f"{_OFFSET}?", True: _OFFSET, False: ""}[kind.tz]
    return {"type": "string", "format": name, "pattern": f"^{date}{_TIME}{offset}$"}


def _formatted(kind: types.Type) -> Schema:
    name, pattern = _FORMATS[type(kind)]
    return {"type": "string", "format": name, "pattern": pattern}


def _lengths(kind: Any, what: str) -> Schema:
    bounds = {f"min{what}": kind.min_length, f"max{what}": kind.max_length}
    return {name: bound for name, bound in bounds.items() if bound is not None}
