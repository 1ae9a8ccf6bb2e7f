"""What every page of the admin has in common: theme, navigation, time zone, and the way to the dashboard."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site_settings
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.test.utils import override_script_prefix

from orchestration import services
from orchestration.models import Stage

STATIC = Path(site_settings.BASE_DIR) / "dashboard" / "static" / "dashboard"
ORCHESTRATION = "/admin/orchestration/"


def test_theme_uses_only_variables_that_exist() -> None:
    theme = (STATIC / "admin.css").read_text()
    defined = set(re.findall(r"^ *(--[\w-]+):", theme + (STATIC / "tokens.css").read_text(), re.MULTILINE))
    assert set(re.findall(r"var\((--[\w-]+)\)", theme)) <= defined
    # Another colour would not follow the tokens.
    assert re.findall(r"#[0-9a-f]{3,8}\b|rgba?\(", theme) == []


@pytest.mark.django_db
def test_pages_have_the_navigation_and_say_their_time_zone(admin: Client) -> None:
    for path in ("", "orchestration/workflow/", "orchestration/workflow/start/", "auth/user/"):
        page = admin.get(f"/admin/{path}").content.decode()
        navigation = page[page.index('<nav class="admin-nav"') :]
        names = re.findall(r">(\w+)</a>", navigation[: navigation.index("</nav>")])
        assert names == ["Dashboard", "Workflows", "Stages", "Waits", "Pools", "Workers", "Events"], path
        assert f"Times: {site_settings.TIME_ZONE}" in page
    assert (
        f'<a href="{ORCHESTRATION}pool/" aria-current="page">Pools</a>'
        in admin.get(f"{ORCHESTRATION}pool/").content.decode()
    )


@pytest.mark.django_db
@pytest.mark.both_databases
def test_first_page_counts_runs_and_workers_and_lists_own_apps_first(admin: Client) -> None:
    services.create_pool(pool_id="pool")
    for worker_id, status in (("a", "busy"), ("b", "idle"), ("c", "offline")):
        services.register_worker(worker_id=worker_id, pool_id="pool")
        if status != "idle":
            services.change_worker_status(worker_id=worker_id, status=status)
    for number in range(4):
        services.create_workflow(workflow_id=f"wf_{number}", adapter="python", prompt="", stages=["one"])
        if number:
            services.start_workflow(workflow_id=f"wf_{number}")
    services.fail_workflow(workflow_id="wf_1", error="Out of luck")
    page = admin.get("/admin/").content.decode()
    counts = re.findall(r'href="([^"]*)"><strong class="status-\w+">(\d+\+?)</strong>.*?</span> ([\w ]+)</span>', page)
    assert [(number, what) for _, number, what in counts] == [
        ("2", "running"),
        ("1", "pending"),
        ("1", "failed in 24 h"),
        ("1", "workers busy"),
        ("1", "workers idle"),
    ]
    for url, number, _ in counts:
        listed = admin.get(url).content.decode()
        assert len(re.findall(r'<input type="checkbox" name="_selected_action"', listed)) == int(number), url
    apps = re.findall(r'<div class="app-(\w+) module', page)
    assert apps[:2] == ["orchestration", "realtime"] and "auth" in apps


@pytest.mark.django_db
def test_first_page_has_no_numbers_for_a_user_who_may_not_see_the_rows() -> None:
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_user("clerk", is_staff=True))
    page = client.get("/admin/").content.decode()
    assert 'class="overview"' not in page and "Workflows</a>" not in page


@pytest.mark.django_db
def test_pages_of_rows_lead_to_the_dashboard_and_to_their_events(admin: Client) -> None:
    services.create_pool(pool_id="pool")
    services.register_worker(worker_id="worker", pool_id="pool")
    services.create_workflow(workflow_id="wf", adapter="python", prompt="", stages=["one"], pool_id="pool")
    stage = Stage.objects.get()
    for path, address, channel in (
        ("workflow/wf", "/workflows/wf", "workflow%3Awf"),
        (f"stage/{stage.pk}", "/workflows/wf", "workflow%3Awf"),
        ("pool/pool", "/pools/pool", "pool%3Apool"),
        ("worker/worker", "/pools/pool", "worker%3Aworker"),
    ):
        page = admin.get(f"{ORCHESTRATION}{path}/change/").content.decode()
        assert f'<a href="{address}">Dashboard</a>' in page, path
        assert f'<a href="/admin/realtime/event/?q={channel}">Events</a>' in page, path
        assert ">Actions of operators</a>" in page, path


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("exposed", [False, True])
async def test_login_says_on_this_machine_how_to_make_an_account(settings: Any, exposed: bool) -> None:
    settings.MAHAVISHNU_EXPOSED = exposed
    page = await AsyncClient(headers={"host": "localhost"}).get("/admin/login/")
    assert ("manage.py createsuperuser" in page.content.decode()) is not exposed


@pytest.mark.django_db
def test_pages_name_the_host_and_the_path_of_the_websocket(admin: Client, settings: Any) -> None:
    settings.MAHAVISHNU_PAGES_PORT, settings.MAHAVISHNU_PORT = 8691, 8690
    for host, of_websocket in (("localhost", ""), ("localhost:8691", "localhost:8690")):
        with override_script_prefix("/prefix/"):
            page = admin.get("/admin/", headers={"host": host}).content.decode()
        assert f'data-host="{of_websocket}" data-root="/prefix/"' in page
