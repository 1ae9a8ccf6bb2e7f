"""Every defined workflow, by name. Each app defines them in its `workflows` module, like Django's `admin` modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeVar

from django.apps import apps
from django.conf import settings
from django.utils.module_loading import module_has_submodule

from orchestration.plan import InvalidDefinition
from orchestration.sdk.run import Run
from orchestration.sdk.source_location import source_location
from orchestration.services import ParentAttempt
from orchestration.suggestions import did_you_mean, similar_names
from orchestration.text import truncate


class Definition(Protocol):
    """A defined workflow, as the registry, the launcher and adapters use it; `@workflow` makes one.

    Attributes:
        name: The name of the workflow.
        adapter: The name of the adapter that plans and runs it.
        pool: The id of the default pool.
        timeout_seconds: The time limit of a run; None for no limit.
        function: The function that `@workflow` decorates.
        pin: `release` if only workers of the same release may run a run, else `none`.
        inputs: The class whose fields are the parameters; None if they are those of the function.
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

    @property
    def inputs(self) -> type | None: ...

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

    def start_sub_run(self, parent: ParentAttempt, prompt: str, *, pool: str | None, params: Mapping[str, Any]) -> Run:
        """Start a run for a stage."""


MAX_ERROR_CHARACTERS: Final = 500
"""How much of the error of a broken module is kept."""

AnyDefinition = TypeVar("AnyDefinition", bound=Definition)

_definitions: dict[str, Definition] = {}


@dataclass(frozen=True, kw_only=True)
class BrokenModule:
    """A `workflows` module that cannot be imported, so none of its workflows is defined.

    Attributes:
        name: The module, such as `shop.workflows`.
        error: The type and the message of the error.
        location: The file and the line in the user's code.
    """

    name: str
    error: str
    location: str

    def __str__(self) -> str:
        return f"{self.name} cannot be imported: {self.error} ({self.location})"


class UnknownWorkflow(Exception):
    """No workflow has this name.

    Attributes:
        broken: The modules that cannot be imported. One of them may define it.
    """

    def __init__(self, name: str, *, broken: tuple[BrokenModule, ...] = ()) -> None:
        self.name = name
        self.broken = broken
        super().__init__(name)

    def __str__(self) -> str:
        known = ", ".join(sorted(_definitions)) or "none"
        return " ".join(
            [
                f"Workflow {self.name} not found.{did_you_mean(similar_names(self.name, _definitions))} "
                f"Defined workflows: {known}. Workflows are found in the workflows.py of installed apps and of the "
                "packages in MAHAVISHNU_APPS.",
                *(f"{broken}." for broken in self.broken),
            ]
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


def definitions() -> dict[str, Definition]:
    """Return every workflow, by name, without those of broken modules."""
    _discover()
    return dict(_definitions)


def find_definition(name: str) -> Definition:
    """Return the workflow of this name.

    Raises:
        UnknownWorkflow: if no workflow has this name.
    """
    broken = _discover()
    try:
        return _definitions[name]
    except KeyError:
        raise UnknownWorkflow(name, broken=broken) from None


def broken_modules() -> tuple[BrokenModule, ...]:
    """Return the `workflows` modules that cannot be imported, in the order of their packages."""
    return _discover()


def _discover() -> tuple[BrokenModule, ...]:
    """Import the `workflows` module of each package, and return those that fail.

    Python caches a module that was imported, so only the first call takes time. It tries a broken one again in each
    call, so a corrected file needs no restart.
    """
    packages = [*(config.name for config in apps.get_app_configs()), *settings.MAHAVISHNU_APPS]
    return tuple(filter(None, map(_import_workflows, dict.fromkeys(packages))))


def _import_workflows(package: str) -> BrokenModule | None:
    """Import the `workflows` module of a package, if it has one. A broken module defines no workflow."""
    known = set(_definitions)
    try:
        if module_has_submodule(importlib.import_module(package), "workflows"):
            importlib.import_module(f"{package}.workflows")
    except (Exception, SystemExit) as error:
        # The module is a user's code and may raise anything.
        for name, definition in list(_definitions.items()):
            # Python has dropped the module, so no worker can find its functions.
            if name not in known and definition.function.__module__ not in sys.modules:
                _definitions.pop(name, None)
        return BrokenModule(
            name=f"{package}.workflows",
            error=truncate(f"{type(error).__name__}: {_message(error)}".rstrip(": "), MAX_ERROR_CHARACTERS),
            location=source_location(error, is_own=_is_in_package(package)),
        )
    return None


def _message(error: BaseException) -> str:
    """Return the message on one line; an empty text if the `__str__` of the error raises."""
    try:
        # The text of a SyntaxError repeats its file and its line.
        text = str(error.msg if isinstance(error, SyntaxError) else error)
    except Exception:
        return ""
    return " ".join(text.split())


def _is_in_package(package: str) -> Callable[[str], bool]:
    """Return a function that checks whether a file belongs to the package, or to its top-level package."""
    spec = find_spec(package.partition(".")[0])
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    return lambda file: any(Path(file).is_relative_to(folder) for folder in folders)


def _qualified_name(definition: Definition) -> str:
    return f"{definition.function.__module__}.{definition.function.__qualname__}"
