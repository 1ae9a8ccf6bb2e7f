"""`@workflow`: a definition that can be started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from asgiref.sync import sync_to_async

from orchestration.identifiers import is_identifier
from orchestration.plan import InvalidDefinition, check_seconds
from orchestration.sdk.registry import register
from orchestration.sdk.run import Run

DEFAULT_POOL: Final = "local"
DEFAULT_ADAPTER: Final = "python"


@dataclass(frozen=True, kw_only=True)
class WorkflowDefinition:
    """A workflow that can be started.

    Attributes:
        name: How it is found: `manage.py run_workflow NAME`.
        adapter: Which adapter plans and runs it.
        pool: The pool that runs it unless the start names another.
        timeout_seconds: How long a run may take from its start; None for as long as it takes.
        function: Called with `prompt` and the params at each start; returns what the adapter plans with.
    """

    name: str
    adapter: str
    pool: str
    timeout_seconds: float | None
    function: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

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
        """Store a run and let it begin; while the broker is down it is stored and begins when that is back.

        Args:
            prompt: What it is for.
            key: The same key starts this workflow once: a second start returns the run of the first.
            pool: Another pool than the definition's; it is made if there is none of that name.
            workflow_id: The run's own id, if it may not be made up.
            params: Handed to the function, and with the prompt to every stage as its inputs; JSON.

        Raises:
            InvalidDefinition: the function returned what the adapter cannot run.
            orchestration.services.ServiceError: the pool is draining or closed, the id is taken, a param is not JSON.
        """
        from orchestration.sdk.launch import launch

        return Run(launch(self, prompt=prompt, params=params, key=key, pool=pool, workflow_id=workflow_id))

    async def astart(self, /, prompt: str = "", **options: Any) -> Run:
        """`start`, for code that runs on an event loop."""
        return await sync_to_async(self.start)(prompt, **options)

    def steps(self, prompt: str, params: Mapping[str, Any]) -> Any:
        """Call the function as a start does."""
        return self.function(prompt, **params)


def workflow(
    *,
    adapter: str = DEFAULT_ADAPTER,
    pool: str = DEFAULT_POOL,
    timeout_seconds: float | None = None,
    name: str | None = None,
) -> Callable[[Callable[..., Any]], WorkflowDefinition]:
    """Make a workflow of a function `f(prompt, **params)` that returns its steps, and register it under its name.

    Raises:
        InvalidDefinition: a value is out of range, or another workflow has this name.
    """
    if not is_identifier(pool):
        raise InvalidDefinition(f"pool={pool!r}: expected a pool's id")
    if timeout_seconds is not None:
        check_seconds("timeout_seconds", timeout_seconds)

    def define(function: Callable[..., Any]) -> WorkflowDefinition:
        return register(
            WorkflowDefinition(
                name=name or function.__name__,
                adapter=adapter,
                pool=pool,
                timeout_seconds=timeout_seconds,
                function=function,
            )
        )

    return define
