"""A class as the parameters of a workflow: `@workflow(inputs=Inputs)`. Its fields are the parameters."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, Final

from msgspec import NODEFAULT
from msgspec import inspect as types

from orchestration.plan import InvalidDefinition
from orchestration.sdk.conversion import Mismatch, convert, convert_strictly
from orchestration.sdk.json_values import MISSING, as_stored, is_model, to_builtins
from orchestration.sdk.parameters import RESERVED, Parameter, Parameters, parameters_of
from orchestration.sdk.registry import Definition
from orchestration.secret_mask import hidden

_PLAIN_FACTORIES: Final = (list, dict, set, frozenset, tuple)


class _Computed:
    """Stands for a default that is computed at each start, and stored then."""

    def __repr__(self) -> str:
        return "computed"


class ClassParameters(Parameters):
    """The fields of a class as the parameters of a workflow.

    Args:
        workflow: The name of the workflow, for errors.
        function: Its function, which is called with the prompt and the object, or only with the prompt.
        inputs: A dataclass, a class of attrs, a `Struct`, a `TypedDict` or a model of pydantic.

    Raises:
        InvalidDefinition: if a field has a name that no parameter may have.
    """

    def __init__(self, workflow: str, function: Callable[..., Any], inputs: type) -> None:
        super().__init__(workflow, _takes_prompt)
        self._inputs = inputs
        self.declared = list(_fields_of(inputs))
        if reserved := sorted(RESERVED.intersection(each.name for each in self.declared)):
            raise InvalidDefinition(f"{inputs.__name__}.{reserved[0]}: no parameter may have this name")
        _, *others = inspect.signature(function).parameters or ("",)
        self._argument = others[0] if others else None

    def to_store(self, given: Mapping[str, Any], *, texts: Mapping[str, str] | None = None) -> dict[str, Any]:
        known = {each.name: each for each in self.declared}
        for name in given:
            if name not in known:
                raise self._error(f"{name!r} is not a parameter")
        for name, each in known.items():
            if each.default is MISSING and name not in given:
                raise self._error(f"missing a required parameter: {name!r}")
        values = {name: self._meant(known[name], value, (texts or {}).get(name)) for name, value in given.items()}
        with hidden(value for name, value in values.items() if known[name].is_secret):
            try:
                stored: dict[str, Any] = to_builtins(convert_strictly(values, self._inputs))
            except Mismatch as mismatch:
                raise self._error(f"the parameters are {mismatch}") from None
        return stored

    def to_call(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        if self._argument is None:
            return {}
        with hidden(self.secrets_in(stored).values()):
            try:
                return {self._argument: convert(dict(stored), self._inputs)}
            except Mismatch as mismatch:
                raise self._error(f"the parameters are {mismatch}") from None

    def _meant(self, parameter: Parameter, value: Any, text: str | None) -> Any:
        """Return the value, or the text if only that is accepted. Check it alone, which gives the shortest error."""
        if text is not None and not self.accepts(parameter, value) and self.accepts(parameter, text):
            value = text
        if not is_model(self._inputs):
            self._checked(parameter, value, None)
        elif parameter.is_secret:
            self._check_secret(parameter, value)
        return value


def _takes_prompt(prompt: str) -> None: ...


def _fields_of(inputs: Any) -> Iterator[Parameter]:
    if is_model(inputs):
        for name, field in inputs.model_fields.items():
            annotation = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
            default = MISSING if field.is_required() else _default(field.default, field.default_factory)
            yield _parameter(field.alias or name, annotation, default)
        return
    hints = typing.get_type_hints(inputs, include_extras=True)
    kind: Any = types.type_info(inputs)
    for field in kind.fields:
        factory = None if field.default_factory is NODEFAULT else field.default_factory
        default = MISSING if field.required else _default(field.default, factory)
        yield _parameter(field.encode_name, hints[field.name], default)


def _default(default: Any, factory: Any) -> Any:
    if factory is not None:
        return factory() if factory in _PLAIN_FACTORIES else _Computed()
    return _Computed() if default is NODEFAULT else default


def _parameter(name: str, annotation: Any, default: Any) -> Parameter:
    stored = MISSING if default is MISSING else as_stored(default)
    return Parameter(name=name, annotation=annotation, default=default, stored_default=stored)


def parameters_for(definition: Definition) -> Parameters:
    """Return the parameters of a workflow."""
    if definition.inputs is None:
        return parameters_of(definition.name, definition.function)
    return _class_parameters(definition.name, definition.function, definition.inputs)


@lru_cache(maxsize=512)
def _class_parameters(workflow: str, function: Callable[..., Any], inputs: type) -> ClassParameters:
    return ClassParameters(workflow, function, inputs)
