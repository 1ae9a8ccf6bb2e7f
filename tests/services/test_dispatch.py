"""Dispatching after the commit of a transaction."""

from __future__ import annotations

import pytest
from django.db import transaction

from orchestration import dispatch
from orchestration.dispatch import Message, dispatch_after_commit

pytestmark = pytest.mark.django_db(transaction=True)


def test_failing_dispatch_is_logged_and_later_commit_hooks_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("no such queue")

    monkeypatch.setattr(dispatch, "_publish", fail)
    called: list[str] = []
    with transaction.atomic():
        dispatch_after_commit([Message(1, 1, "pool")])
        transaction.on_commit(lambda: called.append("a later hook"))
    assert called == ["a later hook"]
    (record,) = [record for record in caplog.records if record.name == "django.db.backends.base"]
    assert "no such queue" in record.getMessage()
