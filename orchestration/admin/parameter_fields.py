"""A form field for each parameter of a workflow, made from its JSON Schema."""

from __future__ import annotations

import json
from typing import Any, Final

from django import forms

from orchestration.sdk.type_schema import Schema

PREFIX: Final = "param_"
"""Begins the name of the form field of a parameter: a parameter may be named as another field of the form."""

_WIDE: Final = {"class": "vLargeTextField"}
_TYPE_NAMES: Final = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "object": "JSON object",
    "array": "JSON array",
}


class ParameterField(forms.CharField):
    """Takes what `--param` of `run_workflow` takes: JSON if it is JSON and the workflow accepts it, else a text.

    An empty field, and one that still shows the default, is no argument.
    """

    def __init__(self, schema: Schema, root: Schema, *, is_required: bool) -> None:
        kind = _kind(schema, root)
        self.default = _text(schema["default"]) if "default" in schema else ""
        super().__init__(
            required=is_required,
            strip=False,
            initial=self.default,
            widget=_secret_widget() if schema.get("writeOnly") else _widget(kind, is_required=is_required),
            help_text=_help_text(schema, kind, is_required=is_required),
        )
        self.is_text = kind.get("type") == "string"

    def argument(self, text: str) -> Any:
        """Return the value of a text that a person entered.

        Raises:
            forms.ValidationError: if it is JSON that is nested too deeply.
        """
        if self.is_text:
            return text
        try:
            return json.loads(text)
        except ValueError:
            return text
        except RecursionError:
            raise forms.ValidationError("The JSON is nested too deeply.") from None


def parameter_fields(schema: Schema) -> dict[str, ParameterField]:
    """Return the fields for the parameters that a schema of `parameters_schema` names, by parameter."""
    return {
        name: ParameterField(each, schema, is_required=name in schema["required"])
        for name, each in schema["properties"].items()
    }


def _kind(schema: Schema, root: Schema) -> Schema:
    """Return the schema that decides about the input: without references, and without `null` as an alternative."""
    if "$ref" in schema:
        return dict(root["$defs"][schema["$ref"].rpartition("/")[2]])
    others = [each for each in schema.get("anyOf", ()) if each not in ({"type": "null"}, {"const": None})]
    return _kind(others[0], root) if len(others) == 1 else schema


def _widget(kind: Schema, *, is_required: bool) -> forms.Widget:
    choices = [True, False] if kind.get("type") == "boolean" else kind.get("enum")
    if choices:
        texts = [_text(each) for each in choices]
        return forms.Select(choices=[*([] if is_required else [("", "")]), *zip(texts, texts, strict=True)])
    if kind.get("type") in ("integer", "number"):
        bounds = {html: kind[name] for html, name in (("min", "minimum"), ("max", "maximum")) if name in kind}
        return forms.NumberInput(attrs={"step": "1" if kind["type"] == "integer" else "any", **bounds})
    if kind.get("type") in ("object", "array"):
        return forms.Textarea(attrs={"rows": 4, "spellcheck": "false", **_WIDE})
    return forms.TextInput(attrs=_WIDE)


def _secret_widget() -> forms.Widget:
    """Return a field for a secret, which no page contains: a form with an error asks for it again."""
    return forms.PasswordInput(attrs={"autocomplete": "new-password", **_WIDE})


def _help_text(schema: Schema, kind: Schema, *, is_required: bool) -> str:
    described = schema.get("description", "").rstrip(".")
    known = _TYPE_NAMES.get(kind.get("type", ""), "" if "enum" in kind or "type" in kind else "text or JSON")
    default = _text(schema.get("default"))
    when_empty = "required" if is_required else f"default {default}" if default else "optional"
    text = "; ".join(filter(None, (described, known, when_empty)))
    return f"{text[:1].upper()}{text[1:]}."


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
