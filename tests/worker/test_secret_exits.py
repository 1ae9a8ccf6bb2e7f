"""A run on a real worker that writes its secrets wherever it can: none of the exits has them."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from tests.api.http_calls import call
from tests.harness.client import connect
from tests.harness.engine import Engine
from tests.harness.waiting import wait_until
from tests.worker.run_events import events_until_end

KEY: Final = "s3cr3t/'key'\\ü&more"
PASSWORD: Final = "correct horse battery"
PARAMS: Final[dict[str, Any]] = {"api_key": KEY, "login": {"user": "ada.lovelace", "password": PASSWORD}}
MARKS: Final = ("s3cr3t", "horse", "lovelace")

EVERY_ROW = """
from django.apps import apps
result = {model._meta.label: str(list(model._base_manager.values())) for model in apps.get_models()}
"""

ADMIN_PAGES = """
from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse
from orchestration.models import Stage
client = Client(headers={"host": "localhost"})
user, _ = get_user_model().objects.get_or_create(username="auditor", is_staff=True, is_superuser=True)
client.force_login(user)
stages = Stage.objects.filter(workflow_id=run).values_list("pk", flat=True)
paths = [
    reverse("admin:orchestration_workflow_change", args=[quote(run)]),
    *(reverse("admin:orchestration_stage_change", args=[pk]) for pk in stages),
    *(reverse(f"admin:{name}_changelist") for name in ("orchestration_workflow", "orchestration_stage")),
    reverse("admin:realtime_event_changelist"),
]
answers = {path: client.get(path) for path in paths}
assert all(answer.status_code == 200 for answer in answers.values()), answers
result = {path: answer.content.decode() for path, answer in answers.items()}
user.delete()
"""


def find_marks(text: str) -> list[str]:
    return [mark for mark in MARKS if mark in text]


async def test_no_exit_shows_a_secret(engine: Engine, shared_pool: str) -> None:
    body = {"name": "leaky", "params": PARAMS, "pool_id": shared_pool, "workflow_id": "wf_secret"}
    texts: dict[str, str] = {}
    async with connect(engine.server) as client:
        for channel in ("global", "workflow:wf_secret", "summary"):
            await client.subscribe(channel)
        answer = await asyncio.to_thread(call, engine.server, "POST", "workflows", body)
        assert answer.status == 201, answer.text
        texts["start"] = answer.text
        refused = {**body, "workflow_id": "wf_secret_2", "params": {**PARAMS, "api_key": 123456789}}
        answer = await asyncio.to_thread(call, engine.server, "POST", "workflows", refused)
        assert answer.status == 422 and "123456789" not in answer.text, answer.text
        texts["events"] = json.dumps(await events_until_end(client), ensure_ascii=False)
        assert '"workflow.stage_log"' in texts["events"]
        options_of: dict[str, Any] = {
            "list_stages": {"workflow_id": "wf_secret"},
            "get_stage_result": {"workflow_id": "wf_secret", "stage_name": "leak"},
        }
        for request in ("list_workflows", "list_stages", "get_stage_result", "list_events", "list_definitions"):
            options = options_of.get(request, {})
            texts[request] = json.dumps(await client.request(request, **options), ensure_ascii=False)
        texts["snapshot"] = json.dumps(
            await client.request("subscribe", channel="workflow:wf_secret", snapshot=True), ensure_ascii=False
        )
        texts["waiting"] = json.dumps(client.waiting(), ensure_ascii=False)
    for path in (
        "workflows/wf_secret",
        "workflows",
        "workflows/wf_secret/stages",
        "events?channel=global",
        "definitions",
    ):
        answer = await asyncio.to_thread(call, engine.server, "GET", path)
        assert answer.status == 200, answer.text
        texts[path] = answer.text
    stored = engine.workflow("wf_secret")
    assert (stored["status"], stored["error"]) == (
        "failed",
        "The stage fail failed: RuntimeError: Refused *** of {'user': '***', 'password': '***'}",
    )
    texts |= engine.execute(EVERY_ROW)
    texts |= engine.execute(ADMIN_PAGES, run="wf_secret")
    for name in ("orchestration.FailedAttempt", "/admin/orchestration/workflow/wf_5Fsecret/change/"):
        assert "***" in texts[name]
    worker_log = engine.server.var_dir / f"worker-{shared_pool}.log"
    wait_until(lambda: "It failed" in worker_log.read_text(), timeout_seconds=30, what=str(worker_log))
    logs = {path.name: path.read_text(errors="replace") for path in engine.server.var_dir.glob("*.log")}
    assert "Calling with ***" in logs[worker_log.name]
    texts |= logs
    assert {name: found for name, text in texts.items() if (found := find_marks(text))} == {}
