"""Starting a workflow for a person, who names it and its parameters, and has to be told what does not fit."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from orchestration import services
from orchestration.adapters import MissingDependency, UnknownAdapter, adapter_named
from orchestration.limits import engine_limits
from orchestration.plan import InvalidDefinition
from orchestration.sdk.outcome import error_for_clients
from orchestration.sdk.registry import UnknownWorkflow, find_definition
from orchestration.sdk.run import Run
from orchestration.sdk.source_location import source_location
from orchestration.sdk.workflow import WorkflowDefinition
from orchestration.services import ServiceError

_RESERVED: Final = frozenset({"prompt", "key", "pool", "workflow_id"})


class LaunchError(Exception):
    """Nothing was started, and `str()` says why in words for whoever asked."""


def launch_by_name(
    name: str, *, prompt: str, params: Mapping[str, Any], pool: str | None = None, key: str | None = None
) -> Run:
    """Start the workflow of this name; `WorkflowDefinition.start` says what the arguments mean.

    Raises:
        LaunchError
    """
    try:
        definition = find_definition(name)
        _check_parameters(definition, params)
        told = dataclasses.replace(definition, function=_with_launch_errors(definition))
        return told.start(prompt, key=key, pool=pool, **params)
    except (UnknownWorkflow, UnknownAdapter, InvalidDefinition, MissingDependency, ServiceError) as error:
        raise LaunchError(str(error)) from error


def _with_launch_errors(definition: WorkflowDefinition) -> Callable[..., Any]:
    """The function of a workflow, whose own errors are for whoever asked: they may come from what was asked."""
    own_file = inspect.getfile(definition.function)

    @functools.wraps(definition.function)
    def function(*args: Any, **kwargs: Any) -> Any:
        try:
            return definition.function(*args, **kwargs)
        except (InvalidDefinition, MissingDependency, ServiceError):
            raise
        except (Exception, SystemExit) as error:
            words = error_for_clients(error, engine_limits())
            raise LaunchError(
                f"{definition.name} cannot be started, its function failed: {words} "
                f"({source_location(error, is_own=lambda file: file == own_file)})"
            ) from error

    return function


def parameters_of(definition: WorkflowDefinition) -> list[str]:
    """The parameters that a workflow takes besides its prompt, as its function writes them: `failures=2`."""
    _, *parameters = inspect.signature(definition.function).parameters.values()
    return [
        each.name if each.default is each.empty else f"{each.name}={each.default!r}"
        for each in parameters
        if each.kind is not each.VAR_KEYWORD
    ]


def description_of(definition: WorkflowDefinition) -> str:
    """The first line of what the workflow's function says of itself."""
    return (inspect.getdoc(definition.function) or "").partition("\n")[0]


def _check_parameters(definition: WorkflowDefinition, given: Mapping[str, Any]) -> None:
    try:
        if reserved := sorted(_RESERVED & set(given)):
            raise TypeError(f"{reserved[0]!r} is not a parameter")
        inspect.signature(definition.function).bind("", **given)
    except TypeError as error:
        takes = ", ".join(parameters_of(definition)) or "none"
        raise LaunchError(f"{definition.name} cannot be started so: {error}; its parameters are: {takes}.") from None


if TYPE_CHECKING:
    from orchestration.sdk.workflow import WorkflowDefinition


def launch(
    definition: WorkflowDefinition,
    *,
    prompt: str,
    params: Mapping[str, Any],
    key: str | None,
    pool: str | None,
    workflow_id: str | None,
) -> str:
    """Plan and store a run, and return its id.

    Raises:
        UnknownAdapter, InvalidDefinition, MissingDependency, orchestration.services.ServiceError
    """
    plan = adapter_named(definition.adapter).plan(definition, prompt=prompt, params=params)
    workflow = services.start_run(
        plan, prompt=prompt, params=params, pool_id=pool or definition.pool, key=key, workflow_id=workflow_id
    )
    return workflow.pk
