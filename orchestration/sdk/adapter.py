"""The interface of an adapter, and what it raises if something is missing.

An adapter is a class with the two methods of `Adapter` and a constructor without arguments. The setting
`MAHAVISHNU_ADAPTERS` names it. `plan` is called in the process that starts a run; `run` is called in a worker. They
share only the plan, which is stored as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol, cast

from django.conf import settings
from django.utils.module_loading import import_string

from orchestration.models import Stage
from orchestration.plan import Plan, StagePlan
from orchestration.sdk.context import Context
from orchestration.sdk.registry import Definition
from orchestration.sdk.stage_errors import StageFailed

__all__ = [
    "Adapter",
    "ChecksCode",
    "MissingDependency",
    "MissingRequirement",
    "StageFailed",
    "UnknownAdapter",
    "adapter_of",
    "find_adapter",
]


class Adapter(Protocol):
    """Plans runs and runs their stages."""

    def plan(self, definition: Definition, *, prompt: str, params: Mapping[str, Any]) -> Plan:
        """Return every stage of a run.

        Args:
            definition: `definition.steps(prompt, params)` calls the workflow's function.
            prompt: The prompt of the run.
            params: The parameters of the run; JSON.

        Raises:
            InvalidDefinition: if this adapter cannot run the definition.
            MissingDependency: if the adapter needs a package that is not installed.
        """

    def run(self, stage: StagePlan, ctx: Context, inputs: dict[str, Any]) -> Any:
        """Run one attempt of a stage in a worker, and return its output as JSON data, or a `Next` or `Done` with it.

        Any other exception fails the attempt.

        Args:
            stage: The stage as `plan` returned it.
            ctx: The context of the attempt.
            inputs: The parameters of the run, and its prompt as `prompt`.

        Raises:
            StageFailed: with a message for clients, and whether to retry.
            StageSkipped: with a reason for clients.
            MissingRequirement: before the work begins, if only another worker can run the stage.
        """


class ChecksCode(Protocol):
    """What an adapter may have besides: a check whether this worker has what a stage needs.

    A worker makes the check before an attempt. It returns a stage that it cannot run to the queue, without an attempt,
    and another worker takes it.
    """

    def find_missing(self, stage: StagePlan, *, may_block: bool) -> str | None:
        """Return the name of what this worker lacks to run a stage; empty if nothing.

        The name must be the same on every worker. An exception means that the stage's `call` is missing.

        Args:
            stage: The stage as `plan` returned it.
            may_block: Whether the check may import modules and read files. It may not inside a transaction. If it would
                have to, it returns None, and is made again outside.

        Raises:
            MissingRequirement: in place of returning its name, to add a reason.
        """


class MissingRequirement(Exception):
    """This worker cannot run a stage, because it lacks something that the stage needs. Another worker may have it.

    An adapter or a stage raises it before its work begins. The attempt is released and uses up none of the attempts of
    the stage. This worker process does not start the stage again; another one takes it. If none can, the run is held.

    Args:
        name: What is missing, such as `program ffmpeg`. It must be the same on every worker that lacks it.
        reason: Why, on this worker.
    """

    # For subclasses that do not call `__init__` of this class.
    name = ""
    reason = ""

    def __init__(self, name: str, reason: str = "") -> None:
        self.name = name
        self.reason = reason
        super().__init__(name, reason)

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})" if self.reason else self.name


class MissingDependency(MissingRequirement):
    """An adapter needs a package that is not installed."""

    def __init__(self, adapter: str, package: str) -> None:
        self.adapter = adapter
        self.package = package
        super().__init__(f"package {package}")
        self.args = (adapter, package)

    def __str__(self) -> str:
        return f"Adapter {self.adapter} needs {self.package}, which is not installed: pip install {self.package}"


class UnknownAdapter(Exception):
    """No adapter has this name, or its class cannot be imported."""

    def __init__(self, name: str, reason: str = "") -> None:
        self.name = name
        self.reason = reason
        super().__init__(name, reason)

    def __str__(self) -> str:
        if self.reason:
            return f"Adapter {self.name} cannot be imported: {self.reason}"
        known = ", ".join(sorted(settings.MAHAVISHNU_ADAPTERS))
        return f"Adapter {self.name} not found. Known adapters: {known}. MAHAVISHNU_ADAPTERS adds one."


def adapter_of(stage: Stage) -> str:
    """Return the name of the adapter that runs a stage of the engine: its own, or that of its run."""
    own: str = (stage.plan or {}).get("adapter", "")
    return own or stage.workflow.adapter


@cache
def find_adapter(name: str) -> Adapter:
    """Return the adapter of this name.

    Raises:
        UnknownAdapter: if the setting does not name it, or its class cannot be imported.
        MissingDependency: if its constructor raises this.
    """
    if name not in settings.MAHAVISHNU_ADAPTERS:
        raise UnknownAdapter(name)
    path = settings.MAHAVISHNU_ADAPTERS[name]
    try:
        return cast(Adapter, import_string(path)())
    except MissingDependency:
        raise
    except (Exception, SystemExit) as error:
        # The module is a user's code and may raise anything.
        raise UnknownAdapter(name, f"{type(error).__name__}: {error}") from error
