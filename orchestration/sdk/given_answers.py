"""Who has answered what a run asked, for `ctx.answers`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestration.models import Wait, WaitStatus


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer that ended a wait.

    Attributes:
        value: JSON.
        by: Who answered; empty if that is unknown, or the time was over.
        at: When.
        is_expired: Whether the time was over, and `value` is what was given for that.
    """

    value: Any
    by: str
    at: datetime
    is_expired: bool


class Answers(Mapping[str, Answer]):
    """The answers of the stages of a run that have waited, by the name of the stage."""

    def __init__(self, workflow_id: str, query: Callable[[Callable[[], Any]], Any]) -> None:
        self._workflow_id = workflow_id
        self._query = query
        self._read: dict[str, Answer] | None = None

    def __getitem__(self, stage_name: str) -> Answer:
        return self._answers()[stage_name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._answers())

    def __len__(self) -> int:
        return len(self._answers())

    def _answers(self) -> dict[str, Answer]:
        if self._read is None:
            ended = Wait.objects.filter(
                workflow_id=self._workflow_id, status__in=[WaitStatus.ANSWERED, WaitStatus.EXPIRED], resumes=False
            )
            rows = ended.order_by("pk").values_list("stage__name", "answer", "answered_by", "answered_at", "status")
            self._read = {
                name: Answer(answer, by, at, status == WaitStatus.EXPIRED)
                for name, answer, by, at, status in self._query(lambda: list(rows))
            }
        return self._read
