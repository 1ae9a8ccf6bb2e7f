"""Migrations that change stored rows. They run while the processes of the previous release do."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.db import connection

from orchestration.models import Workflow

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]


def test_names_of_stored_workflows_are_copied_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    migration = import_module("orchestration.migrations.0011_names_of_stored_workflows")
    monkeypatch.setattr(migration, "_ROWS_PER_TRANSACTION", 2)
    plans: dict[str, Any] = {"wf_a": {"name": "report"}, "wf_b": None, "wf_c": {"x": 1}, "wf_d": {"name": "n" * 200}}
    Workflow.objects.bulk_create(Workflow(id=pk, adapter="python", plan=plan) for pk, plan in plans.items())
    Workflow.objects.bulk_create([Workflow(id="wf_e", adapter="python", plan={"name": "old"}, name="new")])
    with connection.schema_editor(atomic=migration.Migration.atomic) as schema_editor:
        migration.copy_names(apps, schema_editor)
    names = dict(Workflow.objects.values_list("pk", "name"))
    assert names == {"wf_a": "report", "wf_b": "", "wf_c": "", "wf_d": "n" * 128, "wf_e": "new"}
    assert not migration.Migration.atomic, "one transaction would block the engine until all rows are copied"
