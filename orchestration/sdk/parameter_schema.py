"""What a workflow may be started with, for clients: its parameters as JSON Schema, and their descriptions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, Final

from orchestration.sdk.input_class import parameters_for
from orchestration.sdk.json_values import MISSING, is_model
from orchestration.sdk.parameters import NO_SECRETS, RESERVED, Parameter, Parameters
from orchestration.sdk.registry import Definition
from orchestration.sdk.type_schema import Schema, TypeSchemas

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_ARGS: Final = re.compile(r"^(?:Args|Arguments|Parameters):\s*$", re.MULTILINE)
_ARGUMENT: Final = re.compile(r"^\*{0,2}(\w+)(?: \([^)]*\))?:\s*(.*)$")


def parameters_schema(definition: Definition) -> Schema:
    """Return the schema of the object that holds the parameters of a start.

    A start may still fail: the function of the workflow may reject values that the types allow.
    """
    parameters = parameters_for(definition)
    descriptions = argument_descriptions(definition.inputs or definition.function)
    types = TypeSchemas()
    of_model = _fields_of_model(definition.inputs, types)
    properties = {}
    for each in parameters.declared:
        text = {"description": descriptions[each.name]} if each.name in descriptions else {}
        properties[each.name] = {
            **_schema(parameters, each, of_model.get(each.name) or types.of(each.annotation)),
            **text,
        }
    whole: Schema = {
        "$schema": DIALECT,
        "type": "object",
        "properties": properties,
        "required": [each.name for each in parameters.declared if each.default is MISSING],
        "additionalProperties": False,
    }
    if parameters.accepts_others:
        whole["additionalProperties"] = types.of(parameters.type_of_others) or True
        whole["propertyNames"] = {"not": {"enum": sorted({*RESERVED, *parameters.not_named})}}
    return {**whole, "$defs": types.classes} if types.classes else whole


def _fields_of_model(inputs: Any, types: TypeSchemas) -> dict[str, Schema]:
    """Return the schemas that pydantic has of the fields of a model, by name; none if it is no model."""
    if not is_model(inputs):
        return {}
    schema = inputs.model_json_schema()
    types.classes.update(schema.get("$defs", {}))
    left_out = ("title", "default")
    return {
        name: {key: value for key, value in each.items() if key not in left_out}
        for name, each in schema["properties"].items()
    }


def _schema(parameters: Parameters, parameter: Parameter, schema: Schema) -> Schema:
    if parameter.is_secret:
        # Forms show it as a password.
        schema = {**schema, "writeOnly": True}
    if parameter.stored_default is MISSING or (parameter.is_secret and parameter.stored_default not in NO_SECRETS):
        return schema
    if not parameters.accepts(parameter, parameter.stored_default):
        # As in `count: int = None`.
        schema = {"anyOf": [schema, {"const": parameter.stored_default}]}
    return {**schema, "default": parameter.stored_default}


def first_paragraph(function: Callable[..., Any]) -> str:
    """Return the first paragraph of a function's docstring, on one line."""
    return " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())


def argument_descriptions(function: Callable[..., Any]) -> dict[str, str]:
    """Return the descriptions of arguments in the section `Args:` of a docstring in Google style, by name."""
    _, *section = _ARGS.split(inspect.getdoc(function) or "", maxsplit=1)
    found: dict[str, list[str]] = {}
    current: list[str] = []
    indent = 0
    for line in section[0].strip("\n").splitlines() if section else ():
        text = line.strip()
        depth = len(line) - len(line.lstrip())
        if not text:
            continue
        if depth == 0:
            break  # The next section.
        indent = indent or depth
        argument = _ARGUMENT.match(text) if depth == indent else None
        if argument is not None:
            current = found.setdefault(argument[1], [])
            text = argument[2]
        current.append(text)
    return {name: " ".join(filter(None, lines)) for name, lines in found.items()}
