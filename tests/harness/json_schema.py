"""A validator of JSON Schema 2020-12, for the keywords that the server uses. Another keyword is an error."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Check = Callable[[Any, Any, Any], bool]

_ANNOTATIONS = {
    "$schema",
    "$defs",
    "title",
    "description",
    "default",
    "examples",
    "format",
    "contentEncoding",
    "writeOnly",
}


def is_valid(schema: Any, value: Any, root: Any = None) -> bool:
    """Return whether a schema accepts a JSON value. Formats are not checked, as the standard has it."""
    if isinstance(schema, bool):
        return schema
    root = schema if root is None else root
    return all(_CHECKS[keyword](schema, value, root) for keyword in schema if keyword not in _ANNOTATIONS)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_array(value: Any) -> bool:
    return isinstance(value, list)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and value == int(value),
    "number": _is_number,
    "string": _is_text,
    "array": _is_array,
    "object": _is_object,
}


def _is_same(value: Any, other: Any) -> bool:
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def _reference(schema: Any, value: Any, root: Any) -> bool:
    target = root
    for part in schema["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return is_valid(target, value, root)


def _items(schema: Any, value: Any, root: Any) -> bool:
    skipped = len(schema.get("prefixItems", ()))
    return not isinstance(value, list) or all(is_valid(schema["items"], item, root) for item in value[skipped:])


def _prefix(schema: Any, value: Any, root: Any) -> bool:
    return not isinstance(value, list) or all(
        is_valid(each, item, root) for each, item in zip(schema["prefixItems"], value, strict=False)
    )


def _properties(schema: Any, value: Any, root: Any) -> bool:
    return not isinstance(value, dict) or all(
        is_valid(each, value[name], root) for name, each in schema["properties"].items() if name in value
    )


def _others(schema: Any, value: Any, root: Any) -> bool:
    named = schema.get("properties", {})
    return not isinstance(value, dict) or all(
        is_valid(schema["additionalProperties"], item, root) for name, item in value.items() if name not in named
    )


def _bound(keyword: str, applies: Callable[[Any], bool], holds: Callable[[Any, Any], bool]) -> Check:
    return lambda schema, value, root: not applies(value) or holds(value, schema[keyword])


_CHECKS: dict[str, Check] = {
    "$ref": _reference,
    "type": lambda schema, value, root: _TYPES[schema["type"]](value),
    "enum": lambda schema, value, root: any(_is_same(value, each) for each in schema["enum"]),
    "const": lambda schema, value, root: _is_same(value, schema["const"]),
    "anyOf": lambda schema, value, root: any(is_valid(each, value, root) for each in schema["anyOf"]),
    "not": lambda schema, value, root: not is_valid(schema["not"], value, root),
    "items": _items,
    "prefixItems": _prefix,
    "properties": _properties,
    "additionalProperties": _others,
    "propertyNames": lambda schema, value, root: (
        not isinstance(value, dict) or all(is_valid(schema["propertyNames"], name, root) for name in value)
    ),
    "required": lambda schema, value, root: not isinstance(value, dict) or set(schema["required"]) <= set(value),
    "pattern": _bound("pattern", _is_text, lambda value, pattern: re.search(pattern, value) is not None),
    "minLength": _bound("minLength", _is_text, lambda value, bound: len(value) >= bound),
    "maxLength": _bound("maxLength", _is_text, lambda value, bound: len(value) <= bound),
    "minItems": _bound("minItems", _is_array, lambda value, bound: len(value) >= bound),
    "maxItems": _bound("maxItems", _is_array, lambda value, bound: len(value) <= bound),
    "minProperties": _bound("minProperties", _is_object, lambda value, bound: len(value) >= bound),
    "maxProperties": _bound("maxProperties", _is_object, lambda value, bound: len(value) <= bound),
    "minimum": _bound("minimum", _is_number, lambda value, bound: value >= bound),
    "maximum": _bound("maximum", _is_number, lambda value, bound: value <= bound),
    "exclusiveMinimum": _bound("exclusiveMinimum", _is_number, lambda value, bound: value > bound),
    "exclusiveMaximum": _bound("exclusiveMaximum", _is_number, lambda value, bound: value < bound),
    "multipleOf": _bound("multipleOf", _is_number, lambda value, bound: value % bound == 0),
}
