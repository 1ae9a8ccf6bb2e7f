"""What an adapter is.

An adapter is a class without arguments that has the two methods of `Adapter`; the setting `MAHAVISHNU_ADAPTERS` gives
it a name. `plan` is called where a run is started, `run` in a worker: they share nothing but what `plan` returned,
which is stored as JSON in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

from django.conf import settings
from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from orchestration.plan import Plan, StagePlan
    from orchestration.sdk.context import Context
    from orchestration.sdk.workflow import WorkflowDefinition


class Adapter(Protocol):
    """Plans runs and runs their stages."""

    def plan(self, definition: WorkflowDefinition, *, prompt: str, params: Mapping[str, Any]) -> Plan:
        """Return every stage of a run, as JSON can say it; `definition.steps(prompt, params)` calls its function.

        Raises:
            InvalidDefinition: the definition is not one that this adapter can run.
            MissingDependency
        """

    def run(self, stage: StagePlan, ctx: Context, inputs: dict[str, Any]) -> Any:
        """Run one attempt at a stage, in a worker, and return its output: JSON.

        `inputs` is the run's params with the prompt as `prompt`. Whatever this raises fails the attempt.

        Raises:
            StageFailed: with words for clients, and whether another attempt is worth it.
        """


class StageFailed(Exception):
    """An attempt failed, and `str()` of it is what clients are told. Stages may raise it as well.

    Args:
        may_retry: False if another attempt would fail as well: then the stage has failed, whatever it has left.
        details: For operators: stored with the attempt in place of a traceback.
    """

    def __init__(self, message: str, *, may_retry: bool = True, details: str = "") -> None:
        self.may_retry = may_retry
        self.details = details
        super().__init__(message)


class MissingDependency(Exception):
    """An adapter needs a package that is not installed."""

    def __init__(self, adapter: str, package: str) -> None:
        self.adapter = adapter
        self.package = package
        super().__init__(adapter, package)

    def __str__(self) -> str:
        return f"The adapter {self.adapter} needs {self.package}, which is not installed: pip install {self.package}"


class UnknownAdapter(Exception):
    """No adapter has this name, or its class cannot be imported."""

    def __init__(self, name: str, reason: str = "") -> None:
        self.name = name
        self.reason = reason
        super().__init__(name, reason)

    def __str__(self) -> str:
        if self.reason:
            return f"The adapter {self.name} cannot be imported: {self.reason}"
        known = ", ".join(sorted(settings.MAHAVISHNU_ADAPTERS))
        return f"There is no adapter named {self.name}; known are: {known}. MAHAVISHNU_ADAPTERS adds one."


@cache
def adapter_named(name: str) -> Adapter:
    """Raises: UnknownAdapter."""
    if name not in settings.MAHAVISHNU_ADAPTERS:
        raise UnknownAdapter(name)
    path = settings.MAHAVISHNU_ADAPTERS[name]
    try:
        return cast(Adapter, import_string(path)())
    except ImportError as error:
        raise UnknownAdapter(name, str(error)) from error
