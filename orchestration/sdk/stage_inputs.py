"""The inputs of a stage: what its function takes of the parameters of the run, converted to its annotations.

    def load(ctx, region: str, days: int = 7): ...    # by name
    def load(ctx, inputs: Inputs): ...                # all of them as one object

A stage that is given arguments, such as the value of an item, takes these first.

The outputs of earlier stages are not passed by name. A plan may grow at run time, so their names are not known at the
start, and may be those of parameters: `ctx.results.get_as("load", Rows)` is explicit.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from orchestration.plan import Arguments, StagePlan
from orchestration.sdk.conversion import Mismatch, convert, convert_strictly, evaluated
from orchestration.sdk.json_values import to_builtins
from orchestration.sdk.stage_errors import StageFailed

NO_ARGUMENTS: Final = Arguments()

_UNKNOWN: Final = object()
"""In place of a value that is not known before the run."""

WHOLE: Final = "inputs"
"""The name of the argument that receives all inputs. A name that begins with an underscore does too."""


class InvalidInput(StageFailed):
    """A function of a stage takes an input that does not exist, or whose value does not fit.

    Attributes:
        name: The input; empty if all of them do not fit.
    """

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        super().__init__(message, may_retry=False)


@dataclass(frozen=True, slots=True)
class _Input:
    name: str
    annotation: Any
    is_whole: bool
    is_keyword_only: bool
    default: Any


class StageInputs:
    """What the function of a stage takes after its context; `inputs_of` makes it.

    Args:
        function: The function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._inputs: list[_Input] = []
        self._takes_others = False
        self.returns: Any = Any
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            signature = inspect.signature(_untyped)
        self.returns = evaluated(signature.return_annotation, function)
        context, *others = signature.parameters.values() or (None,)
        if context is not None and context.kind is context.VAR_POSITIONAL:
            others = [context]
        for each in others:
            self._add(each, evaluated(each.annotation, function))

    def _add(self, parameter: inspect.Parameter, annotation: Any) -> None:
        if parameter.kind is parameter.VAR_KEYWORD:
            self._takes_others = True
            return
        is_rest = parameter.kind is parameter.VAR_POSITIONAL
        if is_rest and self._inputs:
            return
        self._inputs.append(
            _Input(
                name=parameter.name,
                annotation=Any if is_rest else annotation,
                is_whole=is_rest or parameter.name == WHOLE or parameter.name.startswith("_"),
                is_keyword_only=parameter.kind is parameter.KEYWORD_ONLY,
                default=parameter.default,
            )
        )

    def arguments(
        self, stage: str, inputs: Mapping[str, Any], given: Arguments = NO_ARGUMENTS
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of a call after the context: those by position, and those by name.

        Args:
            stage: The name of the stage, for errors.
            inputs: The parameters of the run, and its prompt as `prompt`; JSON.
            given: Values for the first of the named inputs, and for others by their names, in place of parameters.

        Raises:
            InvalidInput: if one does not exist, or does not fit its annotation.
        """
        by_position: list[Any] = []
        by_name: dict[str, Any] = {}
        named = [each.name for each in self._inputs if not each.is_whole]
        self._check_given(stage, named, given)
        values = {**inputs, **dict(zip(named, given.positional, strict=False)), **given.named}
        for each in self._inputs:
            if each.is_whole:
                value = _whole(stage, each, inputs)
            elif each.name in values:
                value = _converted(stage, each, values[each.name])
            elif each.default is inspect.Parameter.empty:
                raise InvalidInput(each.name, f"Stage {stage} takes {each.name}; expected one of {_names(inputs)}")
            else:
                value = each.default
            if each.is_keyword_only:
                by_name[each.name] = value
            else:
                by_position.append(value)
        if self._takes_others:
            by_name = {**{name: value for name, value in values.items() if name not in named}, **by_name}
        return by_position, by_name

    def check(self, stage: StagePlan, inputs: Mapping[str, Any]) -> None:
        """Check that the function can be called for a stage of a plan. The value of an item is not known.

        Raises:
            InvalidInput: as `arguments` does.
        """
        given = stage.arguments
        if stage.each is not None:
            given = Arguments((_UNKNOWN, *given.positional), given.named)
        self.arguments(stage.name, inputs, given)

    def _check_given(self, stage: str, named: Sequence[str], given: Arguments) -> None:
        takes = ", ".join(named) or "none"
        if len(given.positional) > len(named):
            count = len(given.positional)
            raise InvalidInput("", f"Stage {stage} is given {count} arguments; expected at most {len(named)}: {takes}")
        by_position = set(named[: len(given.positional)])
        for name in given.named:
            if name in by_position or (name not in named and not self._takes_others):
                raise InvalidInput("", f"Stage {stage} is given {name}; expected arguments that it takes once: {takes}")


def _untyped(ctx: Any, inputs: Any, /) -> Any: ...


def _converted(stage: str, wanted: _Input, value: Any) -> Any:
    if value is _UNKNOWN:
        return value
    try:
        return convert_strictly(value, wanted.annotation)
    except Mismatch as mismatch:
        raise InvalidInput(wanted.name, f"Stage {stage}: {wanted.name} is {mismatch}") from None


def _whole(stage: str, wanted: _Input, inputs: Mapping[str, Any]) -> Any:
    if wanted.annotation is Any:
        return inputs
    try:
        # Not strictly: the type may leave out parameters that this stage does not need.
        return convert(dict(inputs), wanted.annotation)
    except Mismatch as mismatch:
        try:
            # A type that forbids other fields need not have one for the prompt.
            return convert({name: value for name, value in inputs.items() if name != "prompt"}, wanted.annotation)
        except Mismatch:
            raise InvalidInput("", f"Stage {stage}: {wanted.name} is {mismatch}") from None


def _names(inputs: Mapping[str, Any]) -> str:
    return ", ".join(sorted(inputs))


def checked_return(stage: str, function: Callable[..., Any], output: Any) -> Any:
    """Return the output of a stage, as JSON data if its function has a return annotation.

    Raises:
        StageFailed: if it does not fit the annotation.
    """
    annotation = inputs_of(function).returns
    if annotation is Any:
        return output
    try:
        encoded = to_builtins(output, with_secrets=False)
    except Exception:
        return output  # It is not JSON, which is found when it is stored.
    try:
        convert_strictly(encoded, annotation)
    except Mismatch as mismatch:
        raise StageFailed(f"Stage {stage} returned {mismatch}", may_retry=False) from None
    return encoded


def inputs_of(function: Callable[..., Any]) -> StageInputs:
    """Return what the function of a stage takes. Reading a signature takes longer than converting values."""
    try:
        return _inputs_of(function)
    except TypeError:
        return StageInputs(function)  # It cannot be hashed.


@lru_cache(maxsize=1024)
def _inputs_of(function: Callable[..., Any]) -> StageInputs:
    return StageInputs(function)
