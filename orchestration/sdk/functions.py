"""The functions that a plan names, as workers find them: `package.module:name`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import reduce
from typing import Any, Final

from orchestration.limits import engine_limits
from orchestration.sdk.adapter import MissingRequirement
from orchestration.sdk.outcome import error_for_clients
from orchestration.sdk.stage import StageDefinition

_broken: Final[dict[str, str]] = {}
"""Why functions cannot be imported, by `call`. Their import is not repeated, so all stages that a process runs belong
to one version of the code, and a broken module is not executed for each message."""


def find_imported_function(call: str) -> Callable[..., Any] | None:
    """Return a function without importing its module; None if that is not possible."""
    module = sys.modules.get(call.partition(":")[0])
    try:
        return None if module is None else find_function(call)
    except MissingRequirement:
        return None


def find_missing_function(call: str, *, may_block: bool) -> str | None:
    """Return an empty text if there is such a function; None if that is unknown without an import.

    Raises:
        MissingRequirement: if there is none.
    """
    if not may_block and call not in _broken and call.partition(":")[0] not in sys.modules:
        return None
    find_function(call)
    return ""


def find_function(call: str) -> Callable[..., Any]:
    """Return the function at `package.module:name`.

    Raises:
        MissingRequirement: if it does not exist or its module cannot be imported. So this worker's code differs from
            that of the process that started the run.
    """
    if call in _broken:
        raise MissingRequirement(call, _broken[call])
    module_name, _, name = call.partition(":")
    try:
        found: Any = reduce(getattr, name.split("."), importlib.import_module(module_name))
    except (Exception, SystemExit) as error:
        # The module is a user's code and may raise anything.
        _broken[call] = error_for_clients(error, engine_limits())
        raise MissingRequirement(call, _broken[call]) from error
    function = found.function if isinstance(found, StageDefinition) else found
    if not callable(function):
        raise MissingRequirement(call, "it is not callable")
    return function
