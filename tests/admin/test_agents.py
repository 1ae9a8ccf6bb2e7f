"""The admin of what workflows of agents have: items, waits, streams, and sub-runs."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orchestration import services
from orchestration.admin.streams import MAX_SHOWN_BYTES
from orchestration.models import Stage, StageMap, StreamContent, Wait, Workflow

pytestmark = pytest.mark.django_db

ORCHESTRATION = "/admin/orchestration/"


def create(workflow_id: str, stages: list[str], **columns: Any) -> dict[str, Stage]:
    """Create a workflow with other columns, and return its stages by name."""
    services.create_workflow(workflow_id=workflow_id, name="agent", adapter="python", prompt="", stages=stages)
    Workflow.objects.filter(pk=workflow_id).update(**columns)
    return {stage.name: stage for stage in Stage.objects.filter(workflow=workflow_id)}


def add_items(stage: Stage, numbers: range) -> None:
    StageMap.objects.update_or_create(stage=stage, defaults={"total": 9, "stored": 9, "completed": 5, "failed": 1})
    Stage.objects.bulk_create(
        Stage(workflow_id=stage.workflow_id, name=f"{stage.name}[{n}]", position=n, item_of=stage, item_index=n)
        for n in numbers
    )


def add_wait(stage: Stage, **columns: Any) -> Wait:
    at = timezone.now()
    known: dict[str, Any] = {
        "name": "approve",
        "kind": "ask",
        "title": "Deploy <b>7</b>?",
        "recipients": "group:ops\nada",
    }
    if columns.get("status") == "answered":
        known["answered_at"] = at
    return Wait.objects.create(workflow_id=stage.workflow_id, stage=stage, opened_at=at, **{**known, **columns})


def add_stream(stage: Stage, content: bytes, **columns: Any) -> StreamContent:
    Stage.objects.filter(pk=stage.pk).update(streams=[{"name": "answer"}])
    known = {"name": "answer", "attempt": 1, "content_type": "text", "length": len(content), "sha256": "0" * 64}
    return StreamContent.objects.create(stage=stage, content=content, stored_bytes=len(content), **{**known, **columns})


def text_of(admin: Client, path: str) -> str:
    answer = admin.get(f"{ORCHESTRATION}{path}")
    assert answer.status_code == 200, path
    return answer.content.decode()


def test_stage_shows_its_items_and_the_list_has_them_apart(admin: Client) -> None:
    stages = create("wf", ["embed", "index"])
    add_items(stages["embed"], range(3))
    page = text_of(admin, f"stage/{stages['embed'].pk}/change/")
    assert "5 of 9 completed, 1 failed" in page
    assert re.findall(r">(embed\[\d\])</a>", page) == ["embed[0]", "embed[1]", "embed[2]"]
    item = Stage.objects.get(name="embed[1]")
    assert f'<a href="{ORCHESTRATION}stage/{stages["embed"].pk}/change/">embed</a>' in text_of(
        admin, f"stage/{item.pk}/change/"
    )
    listed = r'<th class="field-name"><a [^>]*>([^<]*)</a>'
    assert re.findall(listed, text_of(admin, "stage/?workflow=wf")) == ["embed", "index"]
    of_stage = text_of(admin, f"stage/?item_of={stages['embed'].pk}")
    assert re.findall(listed, of_stage) == ["embed[0]", "embed[1]", "embed[2]"]
    assert re.findall(listed, text_of(admin, "stage/?item_of=nothing")) == []
    workflow = text_of(admin, "workflow/wf/change/")
    assert "embed[0]" not in workflow and ">embed</a>" in workflow


def test_stage_shows_its_pool_and_its_adapter(admin: Client) -> None:
    services.create_pool(pool_id="gpu")
    stages = create("wf", ["own", "other"], own_pools="gpu")
    Stage.objects.filter(pk=stages["own"].pk).update(pool="gpu", plan={"adapter": "command"})
    pattern = r'field-adapter.*?<div class="readonly">(\w+)</div>'
    adapters = [
        re.findall(pattern, text_of(admin, f"stage/{stages[name].pk}/change/"), re.DOTALL) for name in ("own", "other")
    ]
    assert adapters == [["command"], ["python"]]
    assert f'<a href="{ORCHESTRATION}pool/gpu/change/">gpu</a>' in text_of(admin, "workflow/wf/change/")
    create("plain", ["one"])
    assert "field-pool_link" not in text_of(admin, "workflow/plain/change/")


def test_stages_are_in_the_order_of_their_steps(admin: Client) -> None:
    create("wf", ["turn", "report", "turn_2"])
    for name, step in (("turn", 0), ("turn_2", 1), ("report", 2)):
        Stage.objects.filter(name=name).update(step=step)
    page = text_of(admin, "workflow/wf/change/")
    assert re.findall(r">(turn|turn_2|report)</a>", page) == ["turn", "turn_2", "report"]


def test_reason_of_a_skipped_stage_is_shown(admin: Client) -> None:
    stages = create("wf", ["send", "other"])
    values = {"status": "skipped", "skip_reason": "Nothing to <send>", "finished_at": timezone.now()}
    Stage.objects.filter(name="send").update(**values)
    assert "Nothing to &lt;send&gt;" in text_of(admin, f"stage/{stages['send'].pk}/change/")
    assert "field-skip_reason" not in text_of(admin, f"stage/{stages['other'].pk}/change/")


def test_waits_are_listed_filtered_and_shown(admin: Client) -> None:
    stages = create("wf", ["approve", "confirm"])
    others = create("other", ["approve"])
    schema = {"properties": {"approved": {"type": "boolean"}}}
    at = timezone.now()
    answer = {"status": "answered", "answer": {"approved": True}, "answered_by": "ada", "answered_at": at}
    answered = add_wait(stages["approve"], schema=schema, **answer)
    add_wait(stages["confirm"], expires_at=at + timedelta(hours=1))
    add_wait(others["approve"], name="go")
    listed = r'<th class="field-name"><a [^>]*>([^<]*)</a>'
    found = {
        query: re.findall(listed, text_of(admin, f"wait/{query}"))
        for query in ("", "?status__exact=open", "?status__exact=answered", "?workflow=wf", "?q=other", "?q=g")
    }
    assert list(found.values()) == [
        ["go", "approve", "approve"],
        ["go", "approve"],
        ["approve"],
        ["approve", "approve"],
        ["go"],
        ["go"],
    ]
    assert "Deploy &lt;b&gt;7&lt;/b&gt;?" in text_of(admin, "wait/")
    page = text_of(admin, f"wait/{answered.pk}/change/")
    assert f'<a href="{ORCHESTRATION}workflow/wf/change/">agent · wf</a>' in page
    assert "group:ops, ada" in page and "&quot;approved&quot;: true" in page and "&quot;boolean&quot;" in page
    assert '<a href="/workflows/wf">Dashboard</a>' in page
    assert '<a href="/admin/realtime/event/?q=workflow%3Awf">Events</a>' in page
    for path in ("workflow/wf/change/", f"stage/{stages['approve'].pk}/change/"):
        assert f'<a href="{ORCHESTRATION}wait/{answered.pk}/change/">approve</a>' in text_of(admin, path)


def test_streams_of_a_stage_are_readable(admin: Client) -> None:
    stages = create("wf", ["one", "two"])
    text = add_stream(stages["one"], "Hällo <b>".encode() + b"x" * MAX_SHOWN_BYTES)
    data = add_stream(stages["two"], b"\xff\x00", content_type="bytes", length=3 * 1024)
    stage = text_of(admin, f"stage/{stages['one'].pk}/change/")
    assert f'<a href="{ORCHESTRATION}streamcontent/{text.pk}/change/">answer</a>' in stage
    assert "Hällo" not in stage
    page = text_of(admin, f"streamcontent/{text.pk}/change/")
    assert '<a href="/workflows/wf">Dashboard</a>' in page
    assert '<a href="/admin/realtime/event/?q=workflow%3Awf">Events</a>' in page
    assert "Hällo &lt;b&gt;xxx" in page and "x…</pre>" in page
    page = text_of(admin, f"streamcontent/{data.pk}/change/")
    assert "<pre" not in page and "3.0\xa0KB, 2\xa0bytes stored" in page
    assert "streamcontent" not in text_of(admin, "")


def test_tree_is_shown_upwards_and_downwards(admin: Client) -> None:
    create("root", ["one"], has_children=True)
    stage = Stage.objects.get(workflow="root")
    create("child", ["one"], parent_id="root", root_id="root", parent_stage=stage, has_children=True)
    of_child = Stage.objects.get(workflow="child")
    create("grandchild", ["one"], parent_id="child", root_id="root", parent_stage=of_child)
    root, child, grandchild = (text_of(admin, f"workflow/{name}/change/") for name in ("root", "child", "grandchild"))
    link = f'<a href="{ORCHESTRATION}workflow/%s/change/">%s</a>'
    assert link % ("child", "agent · child") in root and "sub-run of" not in root
    assert f"sub-run of {link % ('root', 'root')}" in child and "of the tree of" not in child
    assert f"sub-run of {link % ('child', 'child')}" in grandchild
    assert f"of the tree of {link % ('root', 'root')}" in grandchild
    listed = re.findall(r'<span class="id" title="([^"]*)">', text_of(admin, "workflow/?parent=child"))
    assert listed == ["grandchild"]


@pytest.mark.both_databases
def test_query_count_is_independent_of_row_count(admin: Client) -> None:
    stages = create("wf", ["embed", "approve"], has_children=True, own_pools="gpu")
    for stage in stages.values():
        add_items(stage, range(1))
        add_stream(stage, b"x")
    stage = stages["embed"]
    wait = add_wait(stage, status="answered")
    create("child", ["one"], parent_id="wf", root_id="wf", parent_stage=stage)
    pages = [
        "workflow/wf/change/",
        "workflow/child/change/",
        "workflow/?parent=wf",
        "stage/",
        f"stage/?item_of={stage.pk}",
        f"stage/{stage.pk}/change/",
        "wait/",
        "wait/?status__exact=open",
        f"wait/{wait.pk}/change/",
        f"streamcontent/{StreamContent.objects.earliest('pk').pk}/change/",
    ]

    def query_counts() -> dict[str, int]:
        counts = {}
        for page in pages:
            with CaptureQueriesContext(connection) as captured:
                text_of(admin, page)
            counts[page] = len(captured)
        return counts

    query_counts()  # Fill the caches.
    with_one = query_counts()
    add_items(stage, range(1, 9))
    for number in range(10):
        add_wait(stage, name=f"more_{number}", status="answered")
        add_stream(stage, b"y", name=f"more_{number}")
        create(f"child_{number}", ["one"], parent_id="wf", root_id="wf", parent_stage=stage)
    assert query_counts() == with_one
    assert max(with_one.values()) <= 9


def test_nothing_of_it_can_be_changed(admin: Client) -> None:
    stages = create("wf", ["one"])
    wait, stream = add_wait(stages["one"]), add_stream(stages["one"], b"x")
    for path in (f"wait/{wait.pk}", f"streamcontent/{stream.pk}"):
        assert admin.post(f"{ORCHESTRATION}{path}/delete/", {"post": "yes"}).status_code == 403
        assert admin.post(f"{ORCHESTRATION}{path}/change/", {}).status_code == 403
        assert admin.get(f"{ORCHESTRATION}{path.split('/')[0]}/add/").status_code == 403
    user = User.objects.create_user("reader", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_stage"]))
    reader = Client(headers={"host": "localhost"})
    reader.force_login(user)
    page = reader.get(f"{ORCHESTRATION}stage/{stages['one'].pk}/change/").content.decode()
    assert "approve" not in page and "streamcontent" not in page
