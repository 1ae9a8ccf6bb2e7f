"""`@stage` and `parallel`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from orchestration.plan import InvalidDefinition, Retry, StagePlan, check_seconds

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class StageDefinition:
    """A step as it is written down; calling it calls the function.

    Attributes:
        name: How it is called in events; the function's name unless it is given.
        call: Where a worker finds the function: `package.module:name`.
        function: What runs, with a context and the inputs of the run.
        options: For adapters whose stages are more than a function; JSON.
    """

    name: str
    call: str
    function: Callable[..., Any] | None = None
    retries: Retry = field(default_factory=Retry)
    timeout_seconds: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.timeout_seconds is not None:
            check_seconds("timeout_seconds", self.timeout_seconds)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.function is None:
            raise TypeError(f"The stage {self.name} has no function to call")
        return self.function(*args, **kwargs)

    def at_step(self, step: int) -> StagePlan:
        """Return the stage as it is stored, in its place."""
        return StagePlan(
            name=self.name,
            step=step,
            call=self.call,
            options=dict(self.options),
            retries=self.retries,
            timeout_seconds=self.timeout_seconds,
        )


@dataclass(frozen=True)
class Parallel:
    """Stages that run side by side."""

    stages: tuple[StageDefinition, ...]


Steps = list[StageDefinition | Parallel] | tuple[StageDefinition | Parallel, ...]


@overload
def stage(function: Callable[..., Any], /) -> StageDefinition: ...


@overload
def stage(
    *, name: str | None = None, retries: Retry | None = None, timeout_seconds: float | None = None
) -> Callable[[Callable[..., Any]], StageDefinition]: ...


def stage(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retries: Retry | None = None,
    timeout_seconds: float | None = None,
) -> StageDefinition | Callable[[Callable[..., Any]], StageDefinition]:
    """Make a stage of a function `f(ctx, inputs)` of a module; what it returns is the stage's output.

    Args:
        name: How it is called; the function's name by default.
        retries: Whether and when a failed attempt is followed by another; none by default.
        timeout_seconds: After so long the process that runs an attempt is killed, and the attempt has failed.

    Raises:
        InvalidDefinition: a worker could not find the function, or a value is out of range.
    """

    def define(function: Callable[..., Any]) -> StageDefinition:
        if "<" in function.__qualname__:
            raise InvalidDefinition(
                f"The stage {function.__qualname__} is defined inside a function, where no worker can find it: "
                "expected a function of a module"
            )
        return StageDefinition(
            name=name or function.__name__,
            call=f"{function.__module__}:{function.__qualname__}",
            function=function,
            retries=retries or Retry(),
            timeout_seconds=timeout_seconds,
        )

    return define if function is None else define(function)


def parallel(*stages: StageDefinition) -> Parallel:
    """Put stages side by side: they run at the same time, and the next step begins when all are completed."""
    if not stages:
        raise InvalidDefinition("parallel() of nothing: expected at least one stage")
    for given in stages:
        if not isinstance(given, StageDefinition):
            raise InvalidDefinition(f"parallel({given!r}): expected stages, made by @stage")
    return Parallel(stages)


def in_steps(steps: Steps) -> tuple[StagePlan, ...]:
    """Return the stages of these steps as they are stored.

    Raises:
        InvalidDefinition: something in it is neither a stage nor `parallel(…)`.
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
