"""Rows of other applications that refer to runs, to their stages, or to failed attempts, and what they prevent."""

from __future__ import annotations

from typing import Any, Final

from django.db.models import PROTECT, Exists, Model, OuterRef, QuerySet

from orchestration.models import STAGE_PARTS, EarlyAnswer, Stage, Worker, Workflow
from orchestration.text import escape_line, text_of, truncate

MAX_REASON_CHARACTERS: Final = 300

_PATHS_TO_RUN: Final[tuple[tuple[type[Model], str], ...]] = (
    (Workflow, ""),
    (EarlyAnswer, "__workflow"),
    (Stage, "__workflow"),
    *((part, "__stage__workflow") for part in STAGE_PARTS),
)


def exclude_protected(runs: QuerySet[Workflow]) -> QuerySet[Workflow]:
    """Leave out the runs that a foreign key with `on_delete=PROTECT` protects, also by a stage or a failed attempt."""
    for model, path in _PATHS_TO_RUN:
        for relation in _relations(model):
            if relation.on_delete is PROTECT:
                runs = runs.exclude(_exists(relation, path))
    return runs


def delete_unreferenced(rows: QuerySet[Any]) -> int:
    """Delete the rows that no foreign key refers to, without signals, and return how many that were."""
    for relation in _relations(rows.model):
        rows = rows.exclude(_exists(relation))
    return rows._raw_delete("default")


def deletion_error(error: Exception) -> str:
    """Return why a row could not be deleted, on one line."""
    # The other argument of a `ProtectedError` has all rows in its text.
    text = text_of(error.args[0] if error.args else error)
    return truncate(escape_line(" ".join(text.split())), MAX_REASON_CHARACTERS)


def _relations(model: type[Model]) -> list[Any]:
    """Return the foreign keys that refer to a model. A worker refers only to the stage that it runs."""
    relations: list[Any] = [*model._meta.get_fields(include_hidden=True)]
    return [
        relation
        for relation in relations
        if relation.auto_created
        and not relation.concrete
        and (relation.one_to_many or relation.one_to_one)
        and relation.related_model is not Worker
        # A run, and what was removed, stay named in the columns of sub-runs: no constraint needs the row.
        and relation.field.db_constraint
    ]


def _exists(relation: Any, path: str = "") -> Exists:
    rows = relation.related_model._base_manager
    return Exists(rows.filter(**{f"{relation.field.name}{path}": OuterRef("pk")}))
