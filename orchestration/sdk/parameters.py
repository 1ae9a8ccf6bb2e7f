"""The parameters of a workflow: checked against the annotations of its function, stored as JSON, converted for a call.

The defaults are stored too. So the stages receive them, and a later default does not change a run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from orchestration.sdk.conversion import Mismatch, convert, describe, evaluated
from orchestration.sdk.json_values import MISSING, as_stored, is_same, to_builtins
from orchestration.sdk.secret import is_secret
from orchestration.sdk.unknown_fields import find_unknown_field
from orchestration.secret_mask import MASK, MIN_CHARACTERS
from orchestration.services import ServiceError
from orchestration.text import text_of

RESERVED: Final = frozenset({"prompt", "key", "pool", "workflow_id"})
"""What a start accepts besides the parameters of the function, which cannot have these names."""


NO_SECRETS: Final = (None, "")
"""Values of a secret parameter that hide nothing, and are stored as they are."""


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
class Parameter:
    """One parameter of a function.

    Attributes:
        annotation: `Any` if there is none, or it cannot be evaluated.
        default: `MISSING` if there is none.
        stored_default: The default as it is read back from JSON; `MISSING` if there is none, or it cannot be stored.
    """

    name: str
    annotation: Any
    default: Any = MISSING
    stored_default: Any = MISSING

    @property
    def is_secret(self) -> bool:
        """Whether its value must not be shown. Nothing is no secret: see `Parameters.secrets_in`."""
        return is_secret(self.annotation)

    def __str__(self) -> str:
        if self.default is MISSING:
            return self.name
        if self.is_secret and self.default not in NO_SECRETS:
            return f"{self.name}={MASK}"
        default = text_of(self.default) if self.stored_default is MISSING else repr(self.stored_default)
        return f"{self.name}={default}"


class Parameters:
    """The parameters of a workflow's function, without its first one, the prompt. `parameters_of` makes it.

    Args:
        workflow: The name of the workflow, for errors.
        function: Its function.

    Attributes:
        declared: The parameters that the function names, in order.
        accepts_others: Whether the function accepts other names too, by `**params`.
        type_of_others: The annotation of those.
        not_named: The names that `**params` does not accept, because they are of positional parameters.
    """

    def __init__(self, workflow: str, function: Callable[..., Any]) -> None:
        self._workflow = workflow
        self._signature = inspect.signature(function)
        self.declared: list[Parameter] = []
        self.accepts_others = False
        self.type_of_others: Any = Any
        prompt, *others = self._signature.parameters.values() or (None,)
        self.not_named = (prompt.name,) if prompt is not None and prompt.kind is prompt.POSITIONAL_OR_KEYWORD else ()
        for each in others:
            annotation = evaluated(each.annotation, function)
            if each.kind is each.VAR_KEYWORD:
                self.accepts_others = True
                self.type_of_others = annotation
            elif each.kind not in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD):
                continue
            elif each.default is each.empty:
                self.declared.append(Parameter(name=each.name, annotation=annotation))
            else:
                default = {"default": each.default, "stored_default": as_stored(each.default)}
                self.declared.append(Parameter(name=each.name, annotation=annotation, **default))

    @property
    def described(self) -> tuple[str, ...]:
        """Each declared parameter, as `failures=2` or only by its name. Its default is shown as it is stored."""
        return tuple(map(str, self.declared))

    def to_store(self, given: Mapping[str, Any], *, texts: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Check the parameters of a start. Return them with the defaults, as JSON if their types are known.

        Args:
            given: The parameters. Values without an annotation that msgspec knows are returned unchecked.
            texts: What a user typed for some of them. The text is used if the function does not accept the value.

        Raises:
            InvalidParameter
        """
        if reserved := sorted(RESERVED & given.keys()):
            raise self._error(f"{reserved[0]!r} is not a parameter")
        try:
            self._signature.bind("", **given)
        except TypeError as error:
            raise self._error(str(error)) from None
        stored = {}
        for each in self._accepted(given):
            if each.name in given:
                stored[each.name] = self._checked(each, given[each.name], (texts or {}).get(each.name))
            elif each.stored_default is not MISSING:
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
                is_default = is_same(value, each.stored_default)
                arguments[each.name] = each.default if is_default else self._converted(each, value)
        return arguments

    def secrets_in(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the secrets among stored parameters, by name."""
        accepted = (each for each in self._accepted(stored) if each.name in stored and each.is_secret)
        return {each.name: stored[each.name] for each in accepted if stored[each.name] not in NO_SECRETS}

    def accepts(self, parameter: Parameter, value: Any) -> bool:
        """Check a value against the annotation of a parameter."""
        try:
            self._converted(parameter, value)
        except InvalidParameter:
            return False
        return not find_unknown_field(value, parameter.annotation)

    def _accepted(self, names: Iterable[str]) -> Iterator[Parameter]:
        """Yield the declared parameters, and those of these names that `**params` accepts."""
        yield from self.declared
        others = set(names).difference(each.name for each in self.declared)
        yield from (Parameter(name=name, annotation=self.type_of_others) for name in others)

    def _checked(self, parameter: Parameter, value: Any, text: str | None) -> Any:
        """Return the value of a start, as it is stored."""
        if parameter.is_secret:
            self._check_secret(parameter, value)
        if parameter.stored_default is not MISSING and (
            value is parameter.default or is_same(value, parameter.stored_default)
        ):
            # Whether or not it fits the annotation, as in `count: int = None`.
            return parameter.stored_default
        try:
            converted = self._converted(parameter, value)
            if unknown := find_unknown_field(value, parameter.annotation):
                raise self._unexpected(parameter, Mismatch(value, parameter.annotation, unknown))
        except InvalidParameter as error:
            if text is None:
                raise
            try:
                return self._checked(parameter, text, None)
            except InvalidParameter:
                raise error from None
        if parameter.annotation is Any:
            return value
        try:
            return to_builtins(converted)
        except Exception:
            return value  # The service rejects it.

    def _converted(self, parameter: Parameter, value: Any) -> Any:
        try:
            return convert(value, parameter.annotation)
        except Mismatch as mismatch:
            raise self._unexpected(parameter, mismatch) from (None if parameter.is_secret else mismatch.__cause__)

    def _check_secret(self, parameter: Parameter, value: Any) -> None:
        """Check that a secret is no mask, and that it can be found in other texts.

        Raises:
            InvalidParameter
        """
        if isinstance(value, str) and value not in NO_SECRETS and (value == MASK or len(value) < MIN_CHARACTERS):
            expected = f"at least {MIN_CHARACTERS} characters of the value itself, which masks show as {MASK}"
            raise self._error(f"{parameter.name} is {MASK}; expected {expected}")

    def _unexpected(self, parameter: Parameter, mismatch: Mismatch) -> InvalidParameter:
        if not parameter.is_secret:
            return self._error(f"{parameter.name} is {mismatch}")
        # Not what is wrong with it: a type's own error may contain the value, or a part of it.
        return self._error(f"{parameter.name} is {MASK}; expected {describe(parameter.annotation)}")

    def _error(self, reason: str) -> InvalidParameter:
        return InvalidParameter(self._workflow, reason, self.described)


@lru_cache(maxsize=512)
def parameters_of(workflow: str, function: Callable[..., Any]) -> Parameters:
    """Return the parameters of the function of a workflow. Reading a signature takes longer than checking values."""
    return Parameters(workflow, function)
