"""Workers that are offline: counted, and listed only if a person asks for them."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.test import Client

from orchestration import services
from orchestration.models import Stage, Worker

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

WORKERS = "/admin/orchestration/worker/"


@pytest.fixture(autouse=True)
def stored() -> None:
    """Store a worker of each kind: one that runs a stage, and two that are offline, in two pools."""
    for pool_id in ("pool_1", "pool_2"):
        services.create_pool(pool_id=pool_id)
    for worker_id, pool_id in (("busy", "pool_1"), ("gone", "pool_1"), ("lost", "pool_2")):
        services.register_worker(worker_id=worker_id, pool_id=pool_id)
    for worker_id in ("gone", "lost"):
        services.change_worker_status(worker_id=worker_id, status="offline")


def listed(page: Any) -> list[str]:
    return re.findall(r'<th class="field-id"><a [^>]*>(\w+)</a>', page.content.decode())


def unlisted(page: Any) -> list[tuple[str, str]]:
    text = html.unescape(page.content.decode())
    return re.findall(r'<a href="([^"]*)"><span aria-hidden="true">⌀</span> (\d+) offline</a>', text)


@pytest.mark.parametrize(
    ("query", "workers", "link"),
    [
        ("", ["busy"], [(f"{WORKERS}?status__exact=offline", "2")]),
        ("?pool=pool_1", ["busy"], [(f"{WORKERS}?status__exact=offline&pool=pool_1", "1")]),
        ("?status__exact=offline", ["gone", "lost"], []),
        ("?status__exact=all", ["busy", "gone", "lost"], []),
        ("?q=gone", ["gone"], []),
        ("?pool=no%00pool", [], []),
    ],
)
def test_list_counts_offline_workers_and_links_to_them(
    admin: Client, query: str, workers: list[str], link: list[tuple[str, str]]
) -> None:
    page = admin.get(WORKERS + query)
    assert (listed(page), unlisted(page)) == (workers, link)


def test_pool_page_counts_offline_workers(admin: Client) -> None:
    page = admin.get("/admin/orchestration/pool/pool_5F1/change/")
    assert re.findall(r'/worker/\w+/change/">(\w+)</a>', page.content.decode()) == ["busy"]
    assert unlisted(page) == [(f"{WORKERS}?status__exact=offline&pool=pool_1", "1")]


def test_worker_links_to_the_stage_that_it_runs_by_its_name(admin: Client) -> None:
    services.create_workflow(workflow_id="wf", adapter="python", prompt="", stages=["measure"], pool_id="pool_1")
    stage = Stage.objects.get()
    Worker.objects.filter(pk="busy").update(stage=stage)
    link = f'<a href="/admin/orchestration/stage/{stage.pk}/change/">measure</a>'
    for path in ("worker/", "worker/busy/change/", "pool/pool_5F1/change/"):
        assert link in admin.get(f"/admin/orchestration/{path}").content.decode(), path
