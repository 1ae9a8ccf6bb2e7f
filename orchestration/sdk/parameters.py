"""The parameters of a workflow: checked against the annotations of its function, stored as JSON, converted for a call.

The defaults are stored too. So the stages receive them, and a later default does not change a run.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import inspect
import json
import re
import reprlib
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import msgspec

from orchestration.services import InvalidArgument, ServiceError
from orchestration.services.validation import json_object

_RESERVED: Final = frozenset({"prompt", "key", "pool", "workflow_id"})

_MISSING: Final = object()

_KIND_ONLY: Final = re.compile(r"Expected `[^`]*`, got `[^`]*`")
"""An error of msgspec that adds nothing to the annotation and the value."""


class InvalidParameter(ServiceError):
    """A workflow's function has no parameter of this name, needs another one, or does not accept the value."""

    def __init__(self, workflow: str, reason: str, parameters: tuple[str, ...]) -> None:
        self.workflow = workflow
        self.reason = reason
        self.parameters = parameters
        super().__init__(workflow, reason, parameters)

    def __str__(self) -> str:
        known = ", ".join(self.parameters) or "none"
        return f"Cannot start {self.workflow}: {self.reason}. Parameters: {known}."


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parameter:
    """One parameter of a function.

    Attributes:
        annotation: `Any` if there is none, or it cannot be evaluated.
        default: `_MISSING` if there is none.
        stored_default: The default as it is read back from JSON; `_MISSING` if there is none, or it cannot be stored.
    """

    name: str
    annotation: Any
    default: Any = _MISSING
    stored_default: Any = _MISSING

    def __str__(self) -> str:
        if self.default is _MISSING:
            return self.name
        return f"{self.name}={self.default if self.stored_default is _MISSING else self.stored_default!r}"


class Parameters:
    """The parameters of a workflow's function, without its first one, the prompt. `parameters_of` makes it.

    Args:
        workflow: The name of the workflow, for errors.
        function: Its function.
    """

    def __init__(self, workflow: str, function: Callable[..., Any]) -> None:
        self._workflow = workflow
        self._signature = inspect.signature(function)
        self._declared: list[_Parameter] = []
        self._type_of_others: Any = Any
        namespace = getattr(inspect.unwrap(function), "__globals__", {})
        for each in list(self._signature.parameters.values())[1:]:
            annotation = _evaluated(each.annotation, namespace)
            if each.kind is each.VAR_KEYWORD:
                self._type_of_others = annotation
            elif each.kind not in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD):
                continue
            elif each.default is each.empty:
                self._declared.append(_Parameter(name=each.name, annotation=annotation))
            else:
                default = {"default": each.default, "stored_default": _as_stored(each.default)}
                self._declared.append(_Parameter(name=each.name, annotation=annotation, **default))

    @property
    def described(self) -> tuple[str, ...]:
        """Each declared parameter, as `failures=2` or only by its name. Its default is shown as it is stored."""
        return tuple(map(str, self._declared))

    def to_store(self, given: Mapping[str, Any], *, texts: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Check the parameters of a start. Return them with the defaults, as JSON if their types are known.

        Args:
            given: The parameters. Values without an annotation that msgspec knows are returned unchecked.
            texts: What a user typed for some of them. The text is used if the function does not accept the value.

        Raises:
            InvalidParameter
        """
        if reserved := sorted(_RESERVED & given.keys()):
            raise self._error(f"{reserved[0]!r} is not a parameter")
        try:
            self._signature.bind("", **given)
        except TypeError as error:
            raise self._error(str(error)) from None
        stored = {}
        for each in self._accepted(given):
            if each.name in given:
                stored[each.name] = self._checked(each, given[each.name], (texts or {}).get(each.name))
            elif each.stored_default is not _MISSING:
                stored[each.name] = each.stored_default
        return stored

    def to_call(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return stored parameters as the function's annotations describe them, for a call.

        Raises:
            InvalidParameter: if the function has changed, and does not accept a value.
        """
        arguments = dict(stored)
        for each in self._accepted(stored):
            if each.name in stored:
                value = stored[each.name]
                is_default = _is_same(value, each.stored_default)
                arguments[each.name] = each.default if is_default else self._converted(each, value)
        return arguments

    def _accepted(self, names: Iterable[str]) -> Iterator[_Parameter]:
        """Yield the declared parameters, and those of these names that `**params` accepts."""
        yield from self._declared
        others = set(names).difference(each.name for each in self._declared)
        yield from (_Parameter(name=name, annotation=self._type_of_others) for name in others)

    def _checked(self, parameter: _Parameter, value: Any, text: str | None) -> Any:
        """Return the value of a start, as it is stored."""
        try:
            converted = self._converted(parameter, value)
        except InvalidParameter:
            if text is None:
                raise
            return self._checked(parameter, text, None)
        if parameter.annotation is Any:
            return value
        try:
            return _to_builtins(converted)
        except (TypeError, RecursionError):
            return value  # The service rejects it.

    def _converted(self, parameter: _Parameter, value: Any) -> Any:
        try:
            return msgspec.convert(value, parameter.annotation, dec_hook=_decode, str_keys=True)
        except msgspec.ValidationError as error:
            detail = "" if _KIND_ONLY.fullmatch(str(error)) else f" ({error})"
            expected = f"{_describe(parameter.annotation)}{detail}"
            raise self._error(f"{parameter.name} is {reprlib.repr(value)}; expected {expected}") from None
        except (TypeError, NameError, NotImplementedError, RecursionError):
            return value  # msgspec does not know the annotation.

    def _error(self, reason: str) -> InvalidParameter:
        return InvalidParameter(self._workflow, reason, self.described)


@lru_cache(maxsize=512)
def parameters_of(workflow: str, function: Callable[..., Any]) -> Parameters:
    """Return the parameters of the function of a workflow. Reading a signature takes longer than checking values."""
    return Parameters(workflow, function)


def _evaluated(annotation: Any, namespace: dict[str, Any]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    holder = SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, namespace, include_extras=True)["it"]
    except Exception:
        return Any  # It is for type checkers only: it may be any expression, with names that do not exist at run time.


def _as_stored(value: Any) -> Any:
    """Return a value as it will be read back from JSON; `_MISSING` if it cannot be stored."""
    try:
        return json_object("params", {"value": _to_builtins(value)})["value"]
    except (InvalidArgument, TypeError, RecursionError):
        return _MISSING


def _is_same(value: Any, stored: Any) -> bool:
    """Compare a value with JSON. Unlike `==`, this distinguishes 1 from true."""
    return type(value) is type(stored) and value == stored and repr(value) == repr(stored)


@dataclass
class _Holder:
    value: Any


def _to_builtins(value: Any) -> Any:
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
        items = [_to_builtins(item) for item in value]
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


def _decode(kind: type, value: Any) -> Any:
    if kind is not Path:
        raise NotImplementedError
    if not isinstance(value, str | Path):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    return Path(value)


def _describe(annotation: Any) -> str:
    """Return an annotation as it is written, and the values of an enumeration."""
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return f"one of {', '.join(repr(each.value) for each in annotation)}"
    return inspect.formatannotation(annotation).replace("typing.", "")
