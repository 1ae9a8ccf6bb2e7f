"""The form of an answer: a class with typed fields, its JSON Schema, and the comparison of answers with it."""

from __future__ import annotations

import importlib
import re
from functools import reduce
from typing import Any, Final

from orchestration.models.wait import MAX_FORM_LENGTH
from orchestration.plan import InvalidDefinition, WaitPlan
from orchestration.sdk.conversion import Mismatch, convert_strictly
from orchestration.sdk.json_values import is_input_class, to_builtins
from orchestration.sdk.outcome import BadOutput, checked_output
from orchestration.sdk.type_schema import Schema, TypeSchemas
from orchestration.services import InvalidAnswer
from orchestration.text import text_of

MAX_FORM_BYTES: Final = 16 * 1024
"""The largest JSON Schema of a form. Events and states contain it."""

MAX_ANSWER_BYTES: Final = 64 * 1024

_PLAIN: Final = (str, bool, int, float)

_MSGSPEC_PATH: Final = re.compile(r"^(?P<expected>.*) - at `\$\.?(?P<path>[^`]*)`$")
_PYDANTIC_PATH: Final = re.compile(r"^ValueError: `(?P<path>[^`]*)`: (?P<expected>.*)$")


def form_reference(form: type) -> str:
    """Return where a process finds the class of a form: `package.module:Class`.

    Raises:
        InvalidDefinition: if it is no class with typed fields, not at the level of a module, or this is longer than
            `MAX_FORM_LENGTH`.
    """
    if form in _PLAIN:
        return f"{form.__module__}:{form.__qualname__}"
    if not is_input_class(form):
        raise InvalidDefinition(
            f"form={form!r}: expected a dataclass, a Struct, a class of attrs, a TypedDict, a model of pydantic, or "
            f"one of {', '.join(each.__name__ for each in _PLAIN)}"
        )
    if "<" in form.__qualname__:
        raise InvalidDefinition(
            f"Form {form.__qualname__} is defined inside a function, where no other process can find it: expected a "
            "module-level class"
        )
    reference = f"{form.__module__}:{form.__qualname__}"
    if len(reference) > MAX_FORM_LENGTH:
        raise InvalidDefinition(
            f"Form {reference}: expected a module and a class whose names have at most {MAX_FORM_LENGTH} characters, "
            f"not {len(reference)}"
        )
    return reference


def form_schema(form: type) -> Schema:
    """Return the JSON Schema of a form.

    Raises:
        InvalidDefinition: if it is too large.
    """
    types = TypeSchemas()
    schema = types.of(form)
    if list(schema) == ["$ref"]:
        name = schema["$ref"].rpartition("/")[2]
        schema = dict(types.classes[name])
        others = {each: classes for each, classes in types.classes.items() if each != name}
        if f"#/$defs/{name}" in repr((schema, others)):
            others[name] = types.classes[name]
        schema = {**schema, "$defs": others} if others else schema
    try:
        checked: Schema = checked_output(schema, max_bytes=MAX_FORM_BYTES, returned_by=f"The form {form.__name__}")
    except BadOutput as error:
        raise InvalidDefinition(f"form={form.__name__}: expected a JSON Schema that can be stored; {error}") from error
    return checked


def checked_answer(wait: WaitPlan, answer: Any) -> Any:
    """Return an answer as it is stored: JSON data, with the defaults of its form.

    Raises:
        InvalidAnswer: if it does not fit the form, is not JSON or too large, or this process does not have the form.
    """
    try:
        encoded = to_builtins(answer, with_secrets=False)
        if wait.form:
            converted = convert_strictly(encoded, _find_form(wait))
            encoded = to_builtins(converted, with_secrets=False)
        return checked_output(encoded, max_bytes=MAX_ANSWER_BYTES, returned_by="The answer")
    except Mismatch as mismatch:
        found = _MSGSPEC_PATH.match(mismatch.detail) or _PYDANTIC_PATH.match(mismatch.detail)
        if found is None:
            raise InvalidAnswer(wait.name, "", mismatch.detail or f"Expected {mismatch.expected}", wait.kind) from None
        raise InvalidAnswer(wait.name, found["path"], found["expected"], wait.kind) from None
    except BadOutput as error:
        raise InvalidAnswer(wait.name, "", str(error), wait.kind) from error
    except TypeError as error:
        raise InvalidAnswer(wait.name, "", f"expected JSON; {text_of(error)}", wait.kind) from error


def _find_form(wait: WaitPlan) -> Any:
    module, _, name = wait.form.partition(":")
    try:
        return reduce(getattr, name.split("."), importlib.import_module(module))
    except (Exception, SystemExit) as error:
        # The module is a user's code and may raise anything.
        reason = f"this process cannot import the form {wait.form}: {error!r}"
        raise InvalidAnswer(wait.name, "", reason, wait.kind) from error
