"""`@stage` and `parallel`: the steps of a workflow."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self, overload

from orchestration.identifiers import IDENTIFIER_EXPECTED, is_identifier
from orchestration.plan import Arguments, Each, InvalidDefinition, Retry, StageOptions, StagePlan
from orchestration.services.validation import InvalidArgument, json_object


@dataclass(frozen=True, kw_only=True)
class StageDefinition(StageOptions):
    """A stage of a workflow; calling it calls the function.

    Attributes:
        function: Called with a context and the inputs of the run; None for a stage that runs no function.
    """

    function: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool and not is_identifier(self.pool):
            raise InvalidDefinition(f"pool={self.pool!r}: expected {IDENTIFIER_EXPECTED}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.function is None:
            raise TypeError(f"Stage {self.name} has no function to call")
        return self.function(*args, **kwargs)

    def given(self, *positional: Any, **named: Any) -> Self:
        """Return the stage with arguments: its function is called as `f(ctx, inputs, *positional, **named)`.

        Raises:
            InvalidDefinition: if they are not JSON.
        """
        arguments = {"positional": list(positional), "named": named}
        try:
            stored = json_object("arguments", arguments)
        except InvalidArgument as error:
            raise InvalidDefinition(f"Arguments of stage {self.name}: expected {error.expected}") from error
        return replace(self, arguments=Arguments(tuple(stored["positional"]), stored["named"]))

    def named(self, name: str) -> Self:
        """Return the stage with another name, for a plan that has it several times."""
        return replace(self, name=name)

    def in_pool(self, pool: str) -> Self:
        """Return the stage with its own pool: workers of this pool run it, in every run.

        Raises:
            InvalidDefinition: if it is no id of a pool.
        """
        if not pool:
            raise InvalidDefinition(f"pool={pool!r}: expected {IDENTIFIER_EXPECTED}")
        return replace(self, pool=pool)

    def at_step(self, step: int) -> StagePlan:
        """Return the stage as it is stored, with its place in the run."""
        return StagePlan(step=step, **{option.name: getattr(self, option.name) for option in fields(StageOptions)})


@dataclass(frozen=True)
class Parallel:
    """Stages that run in parallel."""

    stages: tuple[StageDefinition, ...]


Steps = list[StageDefinition | Parallel] | tuple[StageDefinition | Parallel, ...]


@overload
def stage(function: Callable[..., Any], /) -> StageDefinition: ...


@overload
def stage(
    *,
    name: str | None = None,
    retries: Retry | None = None,
    timeout_seconds: float | None = None,
    atomic: bool = False,
    pool: str | None = None,
) -> Callable[[Callable[..., Any]], StageDefinition]: ...


def stage(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retries: Retry | None = None,
    timeout_seconds: float | None = None,
    atomic: bool = False,
    pool: str | None = None,
) -> StageDefinition | Callable[[Callable[..., Any]], StageDefinition]:
    """Make a stage from a module-level function `f(ctx, inputs)`. Its return value is the stage's output.

    Args:
        function: The function, if the decorator has no arguments.
        name: The stage's name; by default the function's.
        retries: Whether and when a failed attempt is retried; by default it is not.
        timeout_seconds: The time limit of an attempt. After that its process is killed and the attempt fails.
        atomic: Whether what the function writes to the database, the end of its attempt and the event of that are one
            transaction. Only for plain functions, which should be short.
        pool: The id of the pool that runs the stage; by default that of the run. A pool that does not exist is created.

    Raises:
        InvalidDefinition: if a worker could not find the function, a coroutine function is atomic, or a value is out of
            range.
    """

    def define(function: Callable[..., Any]) -> StageDefinition:
        if atomic and inspect.iscoroutinefunction(function):
            raise InvalidDefinition(
                f"Stage {function.__qualname__} is atomic and a coroutine function, which does not run in the thread "
                "of the transaction: expected a plain function"
            )
        return StageDefinition(
            name=name or function.__name__,
            call=_call_of("Stage", function),
            function=function,
            retries=retries or Retry(),
            timeout_seconds=timeout_seconds,
            atomic=atomic,
            pool=pool or "",
        )

    return define if function is None else define(function)


def parallel(*stages: StageDefinition) -> Parallel:
    """Run stages in parallel, as one step; the next step starts when all of them are completed.

    Raises:
        InvalidDefinition: if there is no stage, or an argument is not a stage.
    """
    if not stages:
        raise InvalidDefinition("parallel() has no stages: expected at least one")
    for given in stages:
        if not isinstance(given, StageDefinition):
            raise InvalidDefinition(f"parallel({given!r}): expected stages, made by @stage")
    return Parallel(stages)


def each(
    item: StageDefinition, *, of: StageDefinition, limit: int | None = None, allow_failed: float = 0
) -> StageDefinition:
    """Run a stage once for each value of the output of an earlier stage, which is a list.

    The stage is called as `f(ctx, inputs, value)`, with the arguments that it was given behind the value. Each item has
    the retries and the time limit of the stage. `ctx.results` has the outputs of all items, in the order of the values.

    Args:
        item: The stage.
        of: The earlier stage.
        limit: How many items run at once at most; None for as many as the pool has slots.
        allow_failed: How many items may fail: a number, or a share below 1 of all. If more do, the run fails.

    Raises:
        InvalidDefinition: if an argument is out of range.
    """
    for name, given in (("each", item), ("of", of)):
        if not isinstance(given, StageDefinition):
            raise InvalidDefinition(f"{name}: {given!r}; expected a stage, made by @stage")
    if item.wait is not None:
        raise InvalidDefinition(f"Stage {item.name} runs no function: expected a stage made by @stage")
    if item.each is not None:
        raise InvalidDefinition(f"Stage {item.name} runs for each value already: expected each(…) once")
    return replace(item, each=Each(of=of.name, limit=limit, allow_failed=allow_failed))


def when(
    condition: Callable[..., Any],
    then: StageDefinition | Parallel,
    *,
    otherwise: StageDefinition | Parallel | None = None,
) -> Parallel:
    """Run stages only if a condition holds, and else skip them. They are one step.

    A worker calls `condition(ctx, inputs)` before each attempt at each of the stages, so it has the outputs of earlier
    stages in `ctx.results`.

    Args:
        condition: A module-level function.
        then: What is skipped unless it returns a true value.
        otherwise: What is skipped if it does.

    Raises:
        InvalidDefinition: if a worker could not find the function, an argument is not a stage, or a stage has a
            condition.
    """
    if not callable(condition):
        raise InvalidDefinition(f"when({condition!r}, …): expected a module-level function f(ctx, inputs)")
    call = _call_of("Condition", condition)
    branches = ((then, False),) if otherwise is None else ((then, False), (otherwise, True))
    stages: list[StageDefinition] = []
    for branch, negated in branches:
        if not isinstance(branch, StageDefinition | Parallel):
            raise InvalidDefinition(f"when(…, {branch!r}): expected a stage, made by @stage, or parallel(…)")
        for each in branch.stages if isinstance(branch, Parallel) else (branch,):
            if each.condition:
                raise InvalidDefinition(f"Stage {each.name} has a condition: expected one when(…) for each stage")
            stages.append(replace(each, condition=call, negated=negated))
    return Parallel(tuple(stages))


def _call_of(kind: str, function: Callable[..., Any]) -> str:
    """Return where a worker finds a function.

    Raises:
        InvalidDefinition: if it is not at the level of a module.
    """
    name = getattr(function, "__qualname__", "")
    if not name or "<" in name:
        raise InvalidDefinition(
            f"{kind} {name or repr(function)} is defined inside a function, where no worker can find it: "
            "expected a module-level function"
        )
    return f"{function.__module__}:{name}"


def plan_stages(steps: Steps) -> tuple[StagePlan, ...]:
    """Return the stages of these steps as they are stored; for adapters.

    Raises:
        InvalidDefinition: if an item is neither a stage nor `parallel(…)`.
    """
    if not isinstance(steps, list | tuple):
        raise InvalidDefinition(f"The steps are {steps!r}: expected a list of stages and parallel(…)")
    planned: list[StagePlan] = []
    for number, step in enumerate(steps):
        if isinstance(step, StageDefinition):
            planned.append(step.at_step(number))
        elif isinstance(step, Parallel):
            planned.extend(each.at_step(number) for each in step.stages)
        else:
            raise InvalidDefinition(f"Step {number + 1} is {step!r}: expected a stage, made by @stage, or parallel(…)")
    return tuple(planned)
