"""Every defined workflow, by name. Each app defines them in its `workflows` module, like Django's `admin` modules."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from django.conf import settings
from django.utils.module_loading import autodiscover_modules, module_has_submodule

from orchestration.plan import InvalidDefinition
from orchestration.sdk.run import Run
from orchestration.sdk.source_location import source_location


class Definition(Protocol):
    """A defined workflow, as the registry, the launcher and adapters use it; `@workflow` makes one.

    Attributes:
        name: The name of the workflow.
        adapter: The name of the adapter that plans and runs it.
        pool: The id of the default pool.
        timeout_seconds: The time limit of a run; None for no limit.
        function: The function that `@workflow` decorates.
        pin: `release` if only workers of the same release may run a run, else `none`.
    """

    @property
    def name(self) -> str: ...

    @property
    def adapter(self) -> str: ...

    @property
    def pool(self) -> str: ...

    @property
    def timeout_seconds(self) -> float | None: ...

    @property
    def function(self) -> Callable[..., Any]: ...

    @property
    def pin(self) -> str: ...

    def steps(self, prompt: str, params: Mapping[str, Any]) -> Any:
        """Call the function."""

    def with_function(self, function: Callable[..., Any]) -> Self:
        """Return a copy with another function."""

    def start(
        self,
        /,
        prompt: str = "",
        *,
        key: str | None = None,
        pool: str | None = None,
        workflow_id: str | None = None,
        **params: Any,
    ) -> Run:
        """Start a run."""


AnyDefinition = TypeVar("AnyDefinition", bound=Definition)

_definitions: dict[str, Definition] = {}


class UnknownWorkflow(Exception):
    """No workflow has this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)

    def __str__(self) -> str:
        known = ", ".join(sorted(_definitions)) or "none"
        return (
            f"Workflow {self.name} not found. Defined workflows: {known}. Workflows are found in the workflows.py of "
            "installed apps and of the packages in MAHAVISHNU_APPS."
        )


def register(definition: AnyDefinition) -> AnyDefinition:
    """Add a definition. It replaces an earlier one of the same function, as when a module is reloaded.

    Raises:
        InvalidDefinition: if another workflow has this name.
    """
    known = _definitions.get(definition.name)
    if known is not None and _qualified_name(known) != _qualified_name(definition):
        raise InvalidDefinition(
            f"Workflow {definition.name} is defined twice, in {_qualified_name(known)} and in "
            f"{_qualified_name(definition)}: each name must be unique"
        )
    _definitions[definition.name] = definition
    return definition


def definitions() -> Mapping[str, Definition]:
    """Return every workflow, by name.

    Raises:
        InvalidDefinition: if a `workflows` module cannot be imported.
    """
    _discover()
    return _definitions


def find_definition(name: str) -> Definition:
    """Return the workflow of this name.

    Raises:
        UnknownWorkflow: if no workflow has this name.
        InvalidDefinition: if a `workflows` module cannot be imported.
    """
    try:
        return definitions()[name]
    except KeyError:
        raise UnknownWorkflow(name) from None


def _discover() -> None:
    """Import every `workflows` module. Python caches imports, so only the first call takes time."""
    try:
        autodiscover_modules("workflows")
        for package in settings.MAHAVISHNU_APPS:
            module = importlib.import_module(package)
            if module_has_submodule(module, "workflows"):
                importlib.import_module(f"{package}.workflows")
    except InvalidDefinition:
        raise
    except (Exception, SystemExit) as error:
        # The module is a user's code and may raise anything.
        raise InvalidDefinition(
            f"Workflows cannot be imported: {type(error).__name__}: {_message(error)} "
            f"({source_location(error, is_own=_is_workflows_module)})"
        ) from error


def _message(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)


def _is_workflows_module(file: str) -> bool:
    return Path(file).name == "workflows.py"


def _qualified_name(definition: Definition) -> str:
    return f"{definition.function.__module__}.{definition.function.__qualname__}"
