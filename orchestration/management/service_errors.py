"""Errors of services as errors of commands: one line, with a suggestion for a misspelled id or name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from django.core.management.base import CommandError

from orchestration import services
from orchestration.management.database_errors import readable_database_errors
from orchestration.models import Pool, Stage, Worker, Workflow
from orchestration.suggestions import MAX_KNOWN_NAMES, did_you_mean, similar_names

_NEWEST_WORKFLOWS: Final = 1000
_MAX_SUGGESTIONS: Final = 3

_MIN_PART_CHARACTERS: Final = 4
"""Length of a part of an id that stands for the whole, such as the six characters that the pages show."""

_ID_SIMILARITY: Final = 0.8
"""Random ids are similar to each other: two of a thousand agree in half of their characters."""


@contextmanager
def readable_service_errors() -> Iterator[None]:
    """Replace the traceback of an error of a service or the database with a one-line message.

    Raises:
        CommandError: if the block raised such an error.
    """
    with readable_database_errors():
        try:
            yield
        except services.ServiceError as error:
            raise CommandError(explain(error)) from error


def explain(error: services.ServiceError) -> str:
    """Return the error, and a suggestion if the row that it misses has a similar id or name."""
    if isinstance(error, services.IllegalTransition) and error.kind == "workflow" and not (error.allowed or error.rule):
        return f"Workflow {error.id} has status {error.current}; a finished workflow can only be retried."
    match error:
        case services.StageNotFound():
            stages = Stage.objects.filter(workflow_id=error.workflow_id, hosted=False).order_by("position")
            similar = similar_names(error.stage_name, stages.values_list("name", flat=True)[:MAX_KNOWN_NAMES])
        case services.WorkflowNotFound():
            similar = similar_workflow_ids(error.id)
        case services.PoolNotFound():
            similar = similar_names(
                error.id, Pool.objects.order_by("pk").values_list("pk", flat=True)[:MAX_KNOWN_NAMES]
            )
        case services.WorkerNotFound():
            known = Worker.objects.order_by("pk").values_list("pk", flat=True)[:MAX_KNOWN_NAMES]
            similar = similar_names(error.id, known)
        case _:
            similar = []
    return f"{error}{did_you_mean(similar)}"


def similar_workflow_ids(id: str) -> list[str]:
    """Return the ids of which `id` is a part or a misspelling, of the newest workflows."""
    known = list(Workflow.objects.order_by("-created_at").values_list("pk", flat=True)[:_NEWEST_WORKFLOWS])
    return _with_part(id, known) or similar_names(id, known, limit=_MAX_SUGGESTIONS, min_similarity=_ID_SIMILARITY)


def _with_part(part: str, ids: Iterable[str]) -> list[str]:
    return [each for each in ids if part in each][:_MAX_SUGGESTIONS] if len(part) >= _MIN_PART_CHARACTERS else []
