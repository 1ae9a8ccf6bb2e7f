"""The waits of a run in the process of a test: answered as the test says, or ended as if their time were over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from orchestration import services
from orchestration.models import Wait, WaitKind
from orchestration.sdk.answers import answer, send_signal


class InlineWaits:
    """Answers what a run asks.

    Args:
        workflow_id: The run.
        answers: What stages are answered, by the name of the stage or of the signal.
    """

    def __init__(self, workflow_id: str, answers: Mapping[str, Any]) -> None:
        self._workflow_id = workflow_id
        self._answers = answers
        # When waits end, by the clock of the run.
        self._expires_at: dict[int, datetime] = {}

    def answer_next(self) -> bool:
        """Answer the wait that was opened first of those with an answer. Return False if there is none."""
        given = self._open().filter(name__in=self._answers.keys()).exclude(kind=WaitKind.SLEEP).order_by("pk").first()
        if given is None:
            return False
        value = self._answers[given.name]
        if given.kind == WaitKind.ASK:
            answer(self._workflow_id, given.name, value, by="test")
        else:
            send_signal(self._workflow_id, given.name, value, by="test")
        return True

    def next_due(self, skipped: timedelta) -> tuple[datetime, int] | None:
        """Return when the next wait ends, by the clock of the run, and its primary key; None if none does.

        Args:
            skipped: How far the clock of the run is ahead of the database's.
        """
        due = []
        for pk, expires_at in self._open().exclude(expires_at=None).values_list("pk", "expires_at"):
            if expires_at is not None:
                due.append((self._expires_at.setdefault(pk, expires_at + skipped), pk))
        return min(due, default=None)

    def expire(self, wait_id: int) -> None:
        """End a wait whose time is over by the clock of the run."""
        expires_at = Wait.objects.values_list("expires_at", flat=True).get(pk=wait_id)
        assert expires_at is not None, f"wait {wait_id} has no time limit"
        services.expire_wait(wait_id, due_before=expires_at)

    def _open(self) -> QuerySet[Wait]:
        return Wait.objects.open().filter(workflow_id=self._workflow_id)
