"""What `manage.py status` shows: the report of the server if one runs, and the state in the database."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Self

import msgspec
from django.db.models import QuerySet

from orchestration.db.clock import database_now
from orchestration.models import Pool, Wait, Workflow, WorkflowStatus
from orchestration.text import truncate
from realtime.eventlog.position import current_position
from realtime.health.scheduler_check import read_scheduler_state
from realtime.management.server_address import page_url, workflow_url
from realtime.management.server_check import ServerReport, server_report

MAX_COUNT: Final = 10_000
"""Rows are counted up to this number."""

FAILED_WITHIN: Final = timedelta(hours=24)

_MAX_POOLS: Final = 200
_MAX_LISTED_FAILURES: Final = 10
_MAX_LISTED_QUESTIONS: Final = 10
_MAX_ERROR_CHARACTERS: Final = 300


class PoolLine(msgspec.Struct, frozen=True, kw_only=True):
    """One pool. Workers are those that are online."""

    pool_id: str
    status: str
    workers: int
    busy: int
    idle: int
    queued: int
    running: int

    @classmethod
    def of(cls, pool: Pool) -> Self:
        """Return the line of a pool."""
        return cls(
            pool_id=pool.pk,
            status=pool.status,
            workers=pool.active_workers + pool.idle_workers + pool.error_workers,
            busy=pool.active_workers,
            idle=pool.idle_workers,
            queued=pool.queue_size,
            running=pool.tasks_running,
        )


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A run that failed or timed out."""

    workflow_id: str
    name: str
    status: str
    finished_at: datetime
    error: str
    url: str | None


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a run asks, and is not answered yet."""

    workflow_id: str
    name: str
    title: str
    recipients: list[str]
    opened_at: datetime
    url: str | None


class InstallationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of an installation.

    Attributes:
        server: What the server reports; what is wrong if none answers.
        page: The URL of the page with the overview.
        scheduler: `up`, `down` or `off`, by its heartbeat in the database.
        seq: Position of the event log.
        running, pending: Workflows with this status, counted up to `MAX_COUNT`.
        held: Running workflows that no worker can take now.
        pools: The first pools.
        asked: Questions that are open, counted up to `MAX_COUNT`.
        questions: The oldest of them.
        failed: Workflows that failed or timed out within `FAILED_WITHIN`, counted up to `MAX_COUNT`.
        failures: The newest of them.
    """

    server: ServerReport
    page: str | None
    scheduler: str
    seq: int
    running: int
    pending: int
    held: int
    pools: list[PoolLine]
    asked: int
    questions: list[Question]
    failed: int
    failures: list[Failure]

    @property
    def is_healthy(self) -> bool:
        """Whether a server of this installation runs and every part of it works."""
        return self.server.status == "healthy"


def installation_status() -> InstallationStatus:
    """Read the state of this installation.

    Raises:
        django.db.Error: if the database cannot be used.
    """
    failed = Workflow.objects.filter(
        status__in=(WorkflowStatus.FAILED, WorkflowStatus.TIMEOUT), finished_at__gte=database_now() - FAILED_WITHIN
    ).order_by("-finished_at")
    running = Workflow.objects.filter(status=WorkflowStatus.RUNNING)
    questions = Wait.objects.open_questions()
    return InstallationStatus(
        server=server_report(),
        page=page_url("overview"),
        scheduler=read_scheduler_state().status,
        seq=current_position().seq,
        running=_count(running),
        pending=_count(Workflow.objects.filter(status=WorkflowStatus.PENDING)),
        held=_count(running.exclude(held_reason="")),
        pools=[PoolLine.of(pool) for pool in Pool.objects.order_by("pk")[:_MAX_POOLS]],
        asked=questions.order_by()[:MAX_COUNT].count(),
        questions=[
            Question(
                workflow_id=each.workflow_id,
                name=each.name,
                title=each.title,
                recipients=each.recipient_list,
                opened_at=each.opened_at,
                url=workflow_url(each.workflow_id),
            )
            for each in questions.order_by("opened_at", "pk")[:_MAX_LISTED_QUESTIONS]
        ],
        failed=_count(failed),
        failures=[
            Failure(
                workflow_id=each.pk,
                name=each.name,
                status=each.status,
                finished_at=each.finished_at or each.updated_at,
                error=truncate(each.error, _MAX_ERROR_CHARACTERS),
                url=workflow_url(each.pk),
            )
            for each in failed.only("name", "status", "finished_at", "updated_at", "error")[:_MAX_LISTED_FAILURES]
        ],
    )


def _count(workflows: QuerySet[Workflow]) -> int:
    return workflows.order_by()[:MAX_COUNT].count()
