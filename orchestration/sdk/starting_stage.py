"""Start sub-runs in a stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from orchestration import services
from orchestration.sdk.stage_database import StageDatabase
from orchestration.sdk.stage_errors import StageFailed
from orchestration.sdk.steps import StaleAttempt


class StartsSubRuns(Protocol):
    """A workflow that `@workflow` made."""

    @property
    def name(self) -> str: ...

    def start_sub_run(
        self, parent: services.ParentAttempt, prompt: str, *, pool: str | None, params: Mapping[str, Any]
    ) -> Any:
        """Start a run for a stage."""


class StartingStage(StageDatabase):
    """One attempt, as it starts sub-runs. `StageDatabase` describes the arguments."""

    stage_id: int
    attempt: int

    def __init__(
        self, label: str, engine_connections: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        super().__init__(label, engine_connections)
        self._sub_runs: set[str] = set()

    def start(
        self,
        definition: StartsSubRuns,
        /,
        prompt: str = "",
        *,
        key: str | None = None,
        pool: str | None = None,
        detached: bool = False,
        **params: Any,
    ) -> Any:
        """Start a workflow as a sub-run, and return its run. Return `WaitForRuns(run)` from the stage to wait for it.

        A later attempt at the stage finds the sub-run that an earlier one has started. If that has failed, was
        cancelled or timed out, it is retried.

        Args:
            definition: The workflow, made by `@workflow`.
            prompt: What the sub-run is for.
            key: Its name in this stage; by default that of the workflow. Needed to start one workflow several times.
            pool: Overrides the definition's pool.
            detached: Whether it continues if this run is cancelled, fails or times out.
            params: Its parameters.

        Raises:
            StageFailed: in a transaction, or if the attempt has used the key before.
            StaleAttempt: if the attempt has ended meanwhile.
            orchestration.services.ServiceError: if it is refused, as by `definition.start(…)`, or is too deep.
        """
        name = f"{definition.name}/{key or ''}"
        if self._has_transaction():
            raise StageFailed(
                f"Cannot start {definition.name} in a transaction, whose end decides whether it starts; expected it "
                "outside of transaction.atomic(), and in a stage without atomic=True",
                may_retry=False,
            )
        if name in self._sub_runs:
            raise StageFailed(f"The stage has started {definition.name} already; expected another key", may_retry=False)
        run = self._start_sub_run(definition, prompt, key=key, pool=pool, detached=detached, params=params)
        self._sub_runs.add(name)
        return run

    def _start_sub_run(
        self,
        definition: StartsSubRuns,
        prompt: str,
        *,
        key: str | None,
        pool: str | None,
        detached: bool,
        params: Mapping[str, Any],
    ) -> Any:
        parent = services.ParentAttempt(stage_id=self.stage_id, attempt=self.attempt, name=key or "", detached=detached)
        try:
            return self._query(lambda: definition.start_sub_run(parent, prompt, pool=pool, params=params))
        except services.AttemptEnded as error:
            raise StaleAttempt(str(error), may_retry=False) from error
