"""Every workflow that is defined, by name; found in the `workflows` module of each app, as Django finds `admin`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.module_loading import autodiscover_modules, module_has_submodule

from orchestration.plan import InvalidDefinition
from orchestration.sdk.source_location import source_location

if TYPE_CHECKING:
    from orchestration.sdk.workflow import WorkflowDefinition

_definitions: dict[str, WorkflowDefinition] = {}


class UnknownWorkflow(Exception):
    """No workflow has this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)

    def __str__(self) -> str:
        known = ", ".join(sorted(_definitions)) or "none"
        return (
            f"There is no workflow named {self.name}; defined are: {known}. They are found in the workflows.py of "
            "installed apps and of the packages in MAHAVISHNU_APPS."
        )


def register(definition: WorkflowDefinition) -> WorkflowDefinition:
    """Add a definition; one that comes from the same place again replaces the first, as when a module is reloaded.

    Raises:
        InvalidDefinition: another workflow has this name.
    """
    known = _definitions.get(definition.name)
    if known is not None and _qualified_name(known) != _qualified_name(definition):
        raise InvalidDefinition(
            f"The workflow {definition.name} is defined in {_qualified_name(known)} and in {_qualified_name(definition)}: "
            "expected each name once"
        )
    _definitions[definition.name] = definition
    return definition


def definitions() -> Mapping[str, WorkflowDefinition]:
    """Every workflow, by name.

    Raises:
        InvalidDefinition: a `workflows` module cannot be imported.
    """
    _discover()
    return _definitions


def find_definition(name: str) -> WorkflowDefinition:
    """Raises: UnknownWorkflow, InvalidDefinition."""
    try:
        return definitions()[name]
    except KeyError:
        raise UnknownWorkflow(name) from None


def _discover() -> None:
    """Import every `workflows` module. The import system remembers them, so that only the first call takes time."""
    try:
        autodiscover_modules("workflows")
        for package in settings.MAHAVISHNU_APPS:
            module = importlib.import_module(package)
            if module_has_submodule(module, "workflows"):
                importlib.import_module(f"{package}.workflows")
    except InvalidDefinition:
        raise
    except (Exception, SystemExit) as error:
        # It is a user's code, and may raise anything.
        raise InvalidDefinition(
            f"Workflows cannot be imported: {type(error).__name__}: {_message(error)} "
            f"({source_location(error, is_own=_is_of_workflows)})"
        ) from error


def _message(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)


def _is_of_workflows(file: str) -> bool:
    return Path(file).name == "workflows.py"


def _qualified_name(definition: WorkflowDefinition) -> str:
    return f"{definition.function.__module__}.{definition.function.__qualname__}"
