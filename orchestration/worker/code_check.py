"""Whether this worker has what a stage needs: its adapter, its code, its program, its secrets."""

from __future__ import annotations

import logging
from typing import Any, Final

from django.conf import settings

from orchestration.limits import engine_limits
from orchestration.models import Stage, Workflow
from orchestration.sdk import Adapter, MissingRequirement, adapter_of, error_for_clients, find_adapter
from orchestration.secret_mask import hide, masked
from orchestration.services import Requirement, SecretsUnreadable, unsealed
from orchestration.text import storable, text_of
from orchestration.worker.engine_part import find_missing_condition

logger = logging.getLogger(__name__)

_MAX_LOGGED: Final = 1000
"""How many requirements are remembered as logged."""

_adapters: Final[dict[str, Adapter | Requirement]] = {}
"""What this process has found when it loaded each adapter, by name."""

_logged: Final[set[str]] = set()


class UncheckedCode(Exception):
    """Only a check that may block shows whether the worker has the code. It must not be made in a transaction."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        super().__init__(stage)


def load_adapters() -> None:
    """Import every adapter, for the children that are forked later."""
    for name in settings.MAHAVISHNU_ADAPTERS:
        _load_adapter(name)


def find_missing(stage: Stage) -> Requirement | None:
    """Return what this process lacks to run a stage; None if nothing.

    Raises:
        UncheckedCode: if only a check that may block could show that. Call `check_code()` then, outside of the
            transaction.
    """
    return _find_missing(stage, may_block=False)


def find_missing_for_continuation(stage: Stage) -> Requirement | None:
    """Return what this process lacks to continue inline with a stage; its name if that is not known at once."""
    try:
        return find_missing(stage)
    except UncheckedCode:
        return Requirement(stage.name)


def check_code(stage: Stage) -> Requirement | None:
    """Return what this process lacks to run a stage; None if nothing. Import the adapter and the code of the stage."""
    if adapter_of(stage) not in _adapters:
        _load_adapter(adapter_of(stage))
    return _find_missing(stage, may_block=True)


def requirement_of(error: MissingRequirement) -> Requirement:
    """Return what an adapter or a stage found missing, and log it once."""
    found = Requirement(_line(error.name) or type(error).__name__, _line(error.reason))
    _log_once(found, cause=error.__cause__)
    return found


def inputs_of_run(workflow: Workflow) -> dict[str, Any]:
    """Return the parameters and the prompt of a run. Hide its secrets in the texts of this process from now on.

    Raises:
        MissingRequirement: if this worker cannot read the secrets: another may have their key.
    """
    try:
        secrets = unsealed(workflow)
    except SecretsUnreadable as error:
        raise MissingRequirement("the key of the secrets of the run", error.reason) from None
    hide(secrets.values())
    return {**workflow.params, **secrets, "prompt": workflow.prompt}


def _find_missing(stage: Stage, *, may_block: bool) -> Requirement | None:
    adapter = _adapters.get(adapter_of(stage))
    if adapter is None:
        raise UncheckedCode(stage)
    if isinstance(adapter, Requirement):
        return adapter
    check = getattr(adapter, "find_missing", None)
    try:
        plan = stage.stage_plan
        name = "" if check is None or plan.wait is not None else check(plan, may_block=may_block)
        if name == "":
            name = find_missing_condition(plan, may_block=may_block)
        missing = Requirement(_line(name) or adapter_of(stage)) if name else None
    except MissingRequirement as error:
        return requirement_of(error)
    except (Exception, SystemExit) as error:
        # The check runs a user's code, which may raise anything.
        return _broken(stage.stage_plan.call or f"adapter {adapter_of(stage)}", error)
    if name is None and not may_block:
        raise UncheckedCode(stage)
    if missing is not None:
        _log_once(missing)
    return missing


def _load_adapter(name: str) -> None:
    try:
        _adapters[name] = find_adapter(name)
    except MissingRequirement as error:
        _adapters[name] = requirement_of(error)
    except (Exception, SystemExit) as error:
        _adapters[name] = _broken(f"adapter {name}", error)


def _broken(name: str, error: BaseException) -> Requirement:
    """Return a requirement that the worker lacks because its code raised this error, and log it once."""
    found = Requirement(_line(name), error_for_clients(error, engine_limits()))
    _log_once(found, cause=error)
    return found


def _log_once(missing: Requirement, *, cause: BaseException | None = None) -> None:
    if missing.name in _logged:
        return
    if len(_logged) >= _MAX_LOGGED:
        _logged.clear()
    _logged.add(missing.name)
    logger.warning("This worker lacks %s; stages that need it wait for another worker", missing, exc_info=cause)


def _line(value: object) -> str:
    return " ".join(storable(masked(text_of(value))).split())
