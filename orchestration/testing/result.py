"""What `run_inline` returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from orchestration.models import Stage, StreamContent, Workflow, WorkflowStatus
from orchestration.sdk import Run, RunFailed


@dataclass(frozen=True, kw_only=True)
class InlineEvent:
    """An event that clients of the run's channel would receive.

    Attributes:
        name: Such as `workflow.stage_started`.
        data: As in the message, before a large one is truncated.
    """

    name: str
    data: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """How a stage of the run ended.

    Attributes:
        status: Such as `completed`, `failed`, or `pending` if it never ran.
        output: What it returned, as read back from JSON; None if it is not completed.
        error: Its error, as clients receive it; empty if it did not fail.
        attempts: How many attempts it had.
        failed_attempts: The errors of its failed attempts, in order.
        logs: The messages of `ctx.log` of all attempts.
        streams: What the completed attempt has written into its streams, by name: text or bytes.
    """

    name: str
    status: str
    output: Any
    error: str
    attempts: int
    failed_attempts: tuple[str, ...]
    logs: tuple[str, ...]
    streams: Mapping[str, str | bytes]


@dataclass(frozen=True, kw_only=True)
class InlineResult:
    """How a run ended, as it was stored.

    Attributes:
        workflow_id: The id of the run.
        status: `completed`, `failed`, `cancelled` or `timeout`.
        error: The error of the run; for a cancelled run, the reason.
        stages: Each stage by its name, in order.
        events: What clients of the channel `workflow:<id>` would receive, in order. Empty if `realtime` is not
            installed.
    """

    workflow_id: str
    status: str
    error: str
    stages: Mapping[str, StageResult]
    events: tuple[InlineEvent, ...]
    _output: Any = field(repr=False)
    _cause: BaseException | None = field(repr=False)

    @property
    def run(self) -> Run:
        """The run, to cancel it, retry it or read its row."""
        return Run(self.workflow_id)

    @property
    def output(self) -> Any:
        """The output of the run: what `run.wait()` returns.

        Raises:
            RunFailed: if it is not completed, from the exception of the stage that failed.
        """
        if self.status != WorkflowStatus.COMPLETED:
            raise RunFailed(self.workflow_id, self.status, self.error) from self._cause
        return self._output

    @property
    def logs(self) -> tuple[str, ...]:
        """The messages of `ctx.log`, by stage, in the order of the stages."""
        return tuple(message for stage in self.stages.values() for message in stage.logs)


def read_result(
    workflow: Workflow, *, logs: Mapping[str, Iterable[str]], announced: Iterable[Any], cause: BaseException | None
) -> InlineResult:
    """Read the stored result of a run.

    Args:
        workflow: The run.
        logs: The messages of each stage.
        announced: What the run collected for the event log; only what belongs to its channel is used.
        cause: The exception that a stage raised last, if any.
    """
    stages = workflow.stages.order_by("step", "position").prefetch_related("failed_attempts", "stream_contents")
    return InlineResult(
        workflow_id=workflow.pk,
        status=workflow.status,
        error=workflow.error,
        stages={stage.name: _stage_result(stage, logs.get(stage.name, ())) for stage in stages},
        events=tuple(
            InlineEvent(name=each.name, data=msgspec.json.decode(msgspec.json.encode(each.data)))
            for each in announced
            if f"workflow:{workflow.pk}" in getattr(each, "rooms", ())
        ),
        _output=(workflow.result or {}).get("final_output"),
        _cause=cause if workflow.status == WorkflowStatus.FAILED else None,
    )


def _stage_result(stage: Stage, logs: Iterable[str]) -> StageResult:
    failed_attempts = sorted(stage.failed_attempts.all(), key=lambda failed: failed.pk)
    return StageResult(
        name=stage.name,
        status=stage.status,
        output=(stage.result or {}).get("output"),
        error=stage.error,
        attempts=stage.attempt,
        failed_attempts=tuple(failed.error for failed in failed_attempts),
        logs=tuple(logs),
        streams={each.name: _content(each) for each in stage.stream_contents.all()},
    )


def _content(stream: StreamContent) -> str | bytes:
    content = bytes(stream.content)
    return content.decode() if stream.content_type == "text" else content
