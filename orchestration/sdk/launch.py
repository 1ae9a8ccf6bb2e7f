"""Start a workflow: plan and store its run. `launch_by_name` is for commands and forms: its errors are for users."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from django.conf import settings

from orchestration import services
from orchestration.limits import engine_limits
from orchestration.plan import InvalidDefinition, Plan
from orchestration.sdk.adapter import MissingDependency, UnknownAdapter, find_adapter
from orchestration.sdk.input_class import parameters_for
from orchestration.sdk.outcome import error_for_clients
from orchestration.sdk.registry import Definition, UnknownWorkflow, find_definition
from orchestration.sdk.run import Run
from orchestration.sdk.source_location import source_location
from orchestration.sdk.stage_errors import SecretInPlan
from orchestration.secret_mask import contains_secret, hidden, masked
from orchestration.services import ServiceError


class LaunchError(Exception):
    """Nothing was started. `str()` gives the reason, for people."""


def launch(
    definition: Definition,
    *,
    prompt: str,
    params: Mapping[str, Any],
    key: str | None = None,
    pool: str | None = None,
    workflow_id: str | None = None,
    texts: Mapping[str, str] | None = None,
    parent: services.ParentAttempt | None = None,
) -> Run:
    """Plan and store a run; `WorkflowDefinition.start` and `Parameters.to_store` describe the arguments.

    Raises:
        InvalidParameter: if the workflow's function does not accept a parameter.
        UnknownAdapter: if the definition's adapter cannot be found.
        InvalidDefinition: if the adapter cannot run what the function returned.
        MissingDependency: if the adapter needs a package that is not installed.
        SecretInPlan: if a stage starts it, and passes a secret of the stage's run otherwise than as a secret.
        orchestration.services.ServiceError: if the run cannot be stored.
    """
    parameters = parameters_for(definition)
    stored = parameters.to_store(params, texts=texts)
    secrets = parameters.secrets_in(stored)
    shown = {name: value for name, value in stored.items() if name not in secrets}
    _check_shown(definition.name, {"prompt": prompt, "key": parent.name if parent else key, **shown})
    with hidden(secrets.values()):
        try:
            plan = find_adapter(definition.adapter).plan(definition, prompt=prompt, params=stored)
            _check_adapters(plan)
        except InvalidDefinition as error:
            raise InvalidDefinition(masked(str(error))) from (None if secrets else error)
        _check_no_secrets(plan, secrets)
        start = services.start_run if parent is None else partial(services.start_sub_run, parent=parent)
        workflow = start(
            plan,
            prompt=prompt,
            params=stored,
            defaults=stored.keys() - params.keys(),
            secret_names=secrets.keys(),
            pool_id=pool or definition.pool,
            key=key,
            workflow_id=workflow_id,
            release=_release_for(definition),
        )
    return Run(workflow.pk)


def _check_no_secrets(plan: Plan, secrets: Mapping[str, Any]) -> None:
    """Check that a plan, which is stored as it is, contains no secret.

    Raises:
        InvalidDefinition: if it does.
        SecretInPlan: if a stage starts the run, and the secret is one of the run of that stage.
    """
    for stage in plan.stages:
        if contains_secret(stage.to_json()):
            if not secrets:
                raise SecretInPlan(f"Stage {masked(stage.name)}", _TO_A_SECRET)
            raise InvalidDefinition(
                f"Stage {masked(stage.name)} contains the value of {' or '.join(sorted(secrets))}, which is secret; "
                "expected the stage to take it from its inputs, or a command from its standard input"
            )


_TO_A_SECRET: Final = "expected it in a parameter that is Secret() there too"


def _check_shown(name: str, shown: Mapping[str, Any]) -> None:
    """Check that what is stored of a start as it is has no secret of the stage that this process runs, if any.

    Raises:
        SecretInPlan: if it has.
    """
    for part, value in shown.items():
        if contains_secret(value):
            raise SecretInPlan(f"{part} of {name}", _TO_A_SECRET)


def _check_adapters(plan: Plan) -> None:
    """Check that the adapter of each stage exists and, if the stage is atomic, runs it in a transaction.

    Raises:
        UnknownAdapter, MissingDependency, InvalidDefinition
    """
    for stage in plan.stages:
        name = stage.adapter or plan.adapter
        if not getattr(find_adapter(name), "supports_atomic", False) and stage.atomic:
            raise InvalidDefinition(
                f"Stage {stage.name} is atomic, but what the adapter {name} runs is in no transaction: expected a "
                "function that the adapter python runs"
            )


def _release_for(definition: Definition) -> str:
    """Return the release to which a run is pinned; empty if to none."""
    if definition.pin != "release":
        return ""
    release: str = settings.MAHAVISHNU_RELEASE
    if not release:
        raise InvalidDefinition(
            f'Workflow {definition.name} has pin="release", but this process has no release: set MAHAVISHNU_RELEASE'
        )
    return release


def launch_by_name(
    name: str,
    *,
    prompt: str,
    params: Mapping[str, Any],
    pool: str | None = None,
    key: str | None = None,
    workflow_id: str | None = None,
    texts: Mapping[str, str] | None = None,
) -> Run:
    """Start the workflow of this name; `launch` describes the other arguments.

    Raises:
        LaunchError: if it cannot be started.
    """
    try:
        definition = find_definition(name)
        guarded = definition.with_function(_with_launch_errors(definition.name, definition.function))
        return launch(guarded, prompt=prompt, params=params, key=key, pool=pool, workflow_id=workflow_id, texts=texts)
    except (UnknownWorkflow, UnknownAdapter, InvalidDefinition, MissingDependency, ServiceError) as error:
        raise LaunchError(str(error)) from error


def described_parameters(definition: Definition) -> tuple[str, ...]:
    """Return the parameters of a workflow except its prompt, as its function declares them: `failures=2`."""
    return parameters_for(definition).described


def description_of(definition: Definition) -> str:
    """Return the first line of the docstring of the workflow's function."""
    return (inspect.getdoc(definition.function) or "").partition("\n")[0]


# Cached, because `parameters_of` keeps what it has read by function.
@functools.lru_cache(maxsize=512)
def _with_launch_errors(name: str, wrapped: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the function of a workflow: report its errors to the user, whose parameters may have caused them."""
    own_file = inspect.getfile(wrapped)

    @functools.wraps(wrapped)
    def function(*args: Any, **kwargs: Any) -> Any:
        try:
            return wrapped(*args, **kwargs)
        except (InvalidDefinition, MissingDependency, ServiceError):
            raise
        except (Exception, SystemExit) as error:
            message = error_for_clients(error, engine_limits())
            location = source_location(error, is_own=lambda file: file == own_file)
            raise LaunchError(f"Cannot start {name}: its function raised {message} ({location})") from error

    return function
