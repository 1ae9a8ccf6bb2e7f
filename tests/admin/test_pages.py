"""Admin pages: content, permissions and number of queries. Actions are in `test_actions.py`."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from orchestration import services
from orchestration.admin.paginator import MAX_LISTED
from orchestration.admin.read_only import MAX_INLINE_ROWS
from orchestration.models import Stage, Workflow
from orchestration.models.failed_attempt import FailedAttempt
from realtime.models import Event, EventRoom
from realtime.protocol.summary import LEFT_OUT

pytestmark = pytest.mark.django_db

ORCHESTRATION = "/admin/orchestration/"
WORKFLOWS, POOLS, WORKERS, STAGES = (f"{ORCHESTRATION}{name}/" for name in ("workflow", "pool", "worker", "stage"))
EVENTS = "/admin/realtime/event/"


def store(number: int) -> None:
    """Store a pool with two workers, a workflow of two stages whose first one failed, and two events."""
    pool_id, workflow_id = f"pool_{number}", f"wf_{number}"
    services.create_pool(pool_id=pool_id)
    for slot in "ab":
        services.register_worker(worker_id=f"worker_{number}{slot}", pool_id=pool_id)
    services.create_workflow(
        workflow_id=workflow_id, adapter="python", prompt=f"Prompt {number}", stages=["one", "two"], pool_id=pool_id
    )
    services.start_workflow(workflow_id=workflow_id)
    services.start_stage(workflow_id=workflow_id, stage_name="one", worker_id=f"worker_{number}a")
    services.fail_stage(workflow_id=workflow_id, stage_name="one", error="Out of luck")
    FailedAttempt.objects.create(stage=Stage.objects.get(workflow=workflow_id, name="one"), attempt=1, reason="failed")
    for kind, id in (("pool", pool_id), ("workflow", workflow_id)):
        event = Event.objects.create(name=f"{kind}.created", data=f'{{"{kind}_id":"{id}","n":{number}}}')
        EventRoom.objects.create(room=f"{kind}:{id}", event=event)


def listed(page: Any) -> list[str]:
    """Return the first column of a list; the ids of a list of workflows, which has names there."""
    text = page.content.decode()
    ids = re.findall(r'<td class="field-short_id"><span class="id" title="([^"]*)">', text)
    return ids or re.findall(r'<th class="field-\w+"><a href="[^"]*">([^<]*)</a></th>', text)


@pytest.mark.both_databases
def test_page_query_count_is_independent_of_row_count(admin: Client) -> None:
    store(1)
    stage, event = Stage.objects.get(name="one").pk, Event.objects.earliest("seq").seq
    pages = [
        WORKFLOWS,
        f"{WORKFLOWS}wf_5F1/change/",
        f"{WORKFLOWS}?q=wf_1&status=running&pool=pool_1",
        POOLS,
        f"{POOLS}pool_5F1/change/",
        WORKERS,
        f"{WORKERS}worker_5F1a/change/",
        STAGES,
        f"{STAGES}{stage}/change/",
        EVENTS,
        f"{EVENTS}?q=wf_1&name=workflow.created",
        f"{EVENTS}{event}/change/",
        "/admin/",
    ]

    def query_counts() -> dict[str, int]:
        counts = {}
        for page in pages:
            with CaptureQueriesContext(connection) as captured:
                assert admin.get(page).status_code == 200, page
            counts[page] = len(captured)
        return counts

    query_counts()  # Fill the caches.
    with_one = query_counts()
    for number in range(2, 12):
        store(number)
    for number in range(20):
        services.create_workflow(adapter="python", prompt="", stages=["x"], pool_id="pool_1")
        services.register_worker(worker_id=f"more_{number}", pool_id="pool_1")
        EventRoom.objects.create(room=f"worker:more_{number}", event_id=event)
    assert query_counts() == with_one
    assert max(with_one.values()) <= 8


@pytest.mark.both_databases
def test_lists_are_searched_and_filtered(admin: Client) -> None:
    for number in (1, 2, 11):
        store(number)
    services.cancel_workflow(workflow_id="wf_2")
    first, message_id = Event.objects.values_list("seq", "message_id").earliest("seq")
    found = {
        query: listed(admin.get(query))
        for query in (
            WORKFLOWS,
            f"{WORKFLOWS}?q=wf_1",
            f"{WORKFLOWS}?q=prompt+2",
            f"{WORKFLOWS}?status__exact=cancelled",
            f"{WORKFLOWS}?pool=pool_11",
            f"{WORKERS}?pool=pool_2",
            f"{WORKERS}?status__exact=busy",
            f"{POOLS}?q=pool_2",
            f"{STAGES}?status__exact=cancelled",
            f"{STAGES}?q=wf_1",
            f"{STAGES}?q=TWO",
            f"{STAGES}?workflow=wf_1",
            f"{STAGES}?workflow=wf_1&status__exact=failed",
            f"{STAGES}?workflow=no%00workflow",
            f"{EVENTS}?name=pool.created",
            f"{EVENTS}?q=wf_2",
            f"{EVENTS}?q=pool:pool_11",
            f"{EVENTS}?q={first}",
            f"{EVENTS}?q={message_id}",
            f"{EVENTS}?q=nothing",
            f"{EVENTS}?q=%F0%9F%98%80",
            f"{EVENTS}?name=no%00name",
            f"{WORKFLOWS}?pool=no%00pool",
            f"{EVENTS}?q=global",
            f"{EVENTS}?q=summary",
        )
    }
    seqs = [str(first + offset) for offset in range(6)]
    assert list(found.values()) == [
        ["wf_11", "wf_2", "wf_1"],
        ["wf_11", "wf_1"],
        ["wf_2"],
        ["wf_2"],
        ["wf_11"],
        ["worker_2a", "worker_2b"],
        [],
        ["pool_2"],
        ["two"],
        ["two", "one", "two", "one"],
        ["two", "two", "two"],
        ["one", "two"],
        ["one"],
        [],
        [seqs[4], seqs[2], seqs[0]],
        [seqs[3]],
        [seqs[4]],
        [seqs[0]],
        [seqs[0]],
        [],
        [],
        [],
        [],
        seqs[::-1],
        seqs[::-1],
    ]
    Event.objects.create(name=LEFT_OUT[0], data="{}")
    assert listed(admin.get(f"{EVENTS}?q=summary")) == seqs[::-1]


def test_pages_show_stored_rows(admin: Client) -> None:
    store(1)
    services.fail_workflow(workflow_id="wf_1", error="<b>It</b> failed")
    workflow = admin.get(f"{WORKFLOWS}wf_5F1/change/").content.decode()
    assert badges(workflow) == ["✕ failed", "✕ failed", "⊘ cancelled"]
    assert "&lt;b&gt;It&lt;/b&gt; failed" in workflow
    assert '<a href="/admin/orchestration/worker/worker_5F1a/change/">worker_1a</a>' in workflow
    assert '<a href="/admin/realtime/event/?q=workflow%3Awf_1">Events</a>' in workflow
    pool = admin.get(f"{POOLS}pool_5F1/change/").content.decode()
    assert badges(pool) == ["● open", "✓ idle", "✓ idle"]
    assert re.findall(r'<a href="/admin/orchestration/worker/\w+/change/">(\w+)</a>', pool) == [
        "worker_1a",
        "worker_1b",
    ]
    event = admin.get(f"{EVENTS}{Event.objects.get(name='pool.created').seq}/change/").content.decode()
    assert "{\n  &quot;pool_id&quot;: &quot;pool_1&quot;,\n  &quot;n&quot;: 1\n}" in event
    assert '<a href="/admin/orchestration/pool/pool_5F1/change/">pool:pool_1</a>, global' in event


def badges(page: str) -> list[str]:
    """Return the signs and words of all statuses on a page."""
    found = re.findall(r'<span class="status [^>]*><span [^>]*>(.)</span> <span class="word">([\w ]+)</span>', page)
    return [" ".join(each) for each in found]


def test_event_log_shows_the_data_that_other_columns_lack(admin: Client) -> None:
    long = '{"worker_id":"w","status":"offline","timestamp":"now","release":"' + "x" * 400 + '"}'
    for data in ('{"worker_id":"w","status":"offline","timestamp":"now"}', long):
        Event.objects.create(name="worker.status_changed", data=data)
    page = admin.get(EVENTS).content.decode()
    members = re.findall(r'<td class="field-data_preview"><span [^>]*>(.*?)</span></td>', page)
    status = '<span class="member">status <code>&quot;offline&quot;</code></span>'
    assert members[1] == status
    assert members[0].startswith(f'{status} <span class="member">release <code>&quot;xxx')
    assert members[0].endswith("x…</code></span>")


def test_inline_shows_the_first_rows_only(admin: Client) -> None:
    services.create_pool(pool_id="many")
    for number in range(MAX_INLINE_ROWS + 1):
        services.register_worker(worker_id=f"w{number:04}", pool_id="many")
    page = admin.get(f"{POOLS}many/change/").content.decode()
    assert re.findall(r">(w\d+)</a>", page) == [f"w{number:04}" for number in range(MAX_INLINE_ROWS)]
    assert f"Only the first {MAX_INLINE_ROWS} are shown." in page
    assert f'<a href="{WORKERS}?pool=many">List all workers</a>' in page


@pytest.mark.both_databases
def test_page_of_a_wide_workflow_leads_to_a_list_of_all_its_stages_in_order(admin: Client) -> None:
    names = [f"stage_{number:04}" for number in range(MAX_INLINE_ROWS + 10)]
    for workflow_id in ("before", "wide", "after"):
        services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=names)
    page = admin.get(f"{WORKFLOWS}wide/change/").content.decode()
    assert re.findall(r">(stage_\d+)</a>", page) == names[:MAX_INLINE_ROWS]
    (link,) = re.findall(r'<a href="([^"]*)">List all stages</a>', page)
    assert [name for number in range(1, 6) for name in listed(admin.get(f"{link}&p={number}"))] == names


def test_every_list_can_be_searched(admin: Client) -> None:
    lists = [f"/admin/{model._meta.app_label}/{model._meta.model_name}/" for model in site._registry]
    assert {WORKFLOWS, POOLS, WORKERS, STAGES, EVENTS} < set(lists)
    for of_list in lists:
        assert admin.get(f"{of_list}?q=1").status_code == 200, of_list


@pytest.mark.both_databases
def test_lists_count_and_page_a_bounded_number_of_rows(admin: Client) -> None:
    Event.objects.bulk_create(Event(name="a.b", data="{}") for _ in range(MAX_LISTED + 5))
    newest = Event.objects.latest("seq").seq
    with CaptureQueriesContext(connection) as captured:
        last = admin.get(f"{EVENTS}?p=100")
        beyond = admin.get(f"{EVENTS}?p=101")
    assert listed(last)[-1] == str(newest - MAX_LISTED + 1)
    assert f"Only the first {MAX_LISTED} are listed." in last.content.decode()
    assert beyond.status_code == 302
    counts = [query["sql"] for query in captured if "COUNT" in query["sql"]]
    assert counts
    assert all("LIMIT" in sql for sql in counts)


def test_superuser_cannot_edit_rows(admin: Client) -> None:
    store(1)
    stage, event = Stage.objects.get(name="one").pk, Event.objects.earliest("seq").seq
    rows = {WORKFLOWS: "wf_5F1", POOLS: "pool_5F1", WORKERS: "worker_5F1a", STAGES: stage, EVENTS: event}
    for of_list, pk in rows.items():
        for path in ("add/", f"{pk}/delete/"):
            assert admin.get(of_list + path).status_code == 403
        assert admin.post(f"{of_list}{pk}/change/", {"status": "completed", "name": "x"}).status_code == 403
        page = admin.get(of_list).content.decode()
        assert "delete_selected" not in page
        assert "_save" not in admin.get(f"{of_list}{pk}/change/").content.decode()
    assert Workflow.objects.get().status == "running"


@pytest.fixture
def viewer() -> Client:
    """Return a client that is logged in as a user with all view permissions."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client(headers={"host": "localhost"})
    client.force_login(user)
    return client


def test_user_with_view_permission_cannot_run_actions(viewer: Client) -> None:
    store(1)
    before = Workflow.objects.values().get()
    for page in (WORKFLOWS, f"{WORKFLOWS}wf_5F1/change/"):
        response = viewer.get(page)
        assert (response.status_code, "cancel_workflows" in response.content.decode()) == (200, False)
    viewer.post(WORKFLOWS, {"action": "cancel_workflows", "_selected_action": "wf_1", "index": "0"})
    assert Workflow.objects.values().get() == before


def test_action_buttons_appear_only_for_allowed_transitions(admin: Client) -> None:
    store(1)
    pages = {f"{WORKFLOWS}wf_5F1/": "Cancel", f"{WORKERS}worker_5F1a/": "Mark", f"{POOLS}pool_5F1/": "Drain"}

    def buttons() -> list[str]:
        texts = [admin.get(f"{page}change/").content.decode() for page in pages]
        return [label for text in texts for label in re.findall(r'<button class="button"[^>]*>(\w+) this', text)]

    assert buttons() == list(pages.values())
    services.cancel_workflow(workflow_id="wf_1")
    services.change_worker_status(worker_id="worker_1a", status="offline")
    services.drain_pool(pool_id="pool_1")
    assert buttons() == ["Reopen"]
    services.close_pool(pool_id="pool_1")
    assert buttons() == []
