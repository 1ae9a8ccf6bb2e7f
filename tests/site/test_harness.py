"""The test harness: servers, drivers, Valkey and the database."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from websockets.exceptions import ConnectionClosed

from tests.harness.client import UnexpectedMessageError, connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.services import DriverExitedError, ServiceCallError
from tests.harness.valkey import Valkey
from tests.harness.waiting import wait_until


def create_workflow(server: MahavishnuServer, workflow_id: str) -> None:
    server.services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="Write code", stages=["only"])


async def test_driver_change_reaches_a_subscriber(
    server_on_both: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    workflow_id = unique("wf")
    create_workflow(server_on_both, workflow_id)
    async with connect(server_on_both) as client:
        assert client.welcome["event"] == "session.created"
        await client.subscribe(f"workflow:{workflow_id}")
        fields = server_on_both.services.start_workflow(workflow_id=workflow_id)
        assert (fields["id"], fields["status"]) == (workflow_id, "running")
        event = await client.event("workflow.started")
        assert event["data"]["workflow_id"] == workflow_id
        await client.expect_nothing(0.2)


async def test_expect_nothing_shows_the_unexpected_message(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    workflow_id = unique("wf")
    create_workflow(server, workflow_id)
    async with connect(server) as client:
        await client.subscribe(f"workflow:{workflow_id}")
        server.services.start_workflow(workflow_id=workflow_id)
        with pytest.raises(UnexpectedMessageError, match=r"workflow\.started"):
            await client.expect_nothing(5)


def test_driver_raises_the_error_of_a_service_call(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    with pytest.raises(ServiceCallError) as error:
        server.services.start_workflow(workflow_id=unique("nowhere"))
    assert error.value.class_name == "WorkflowNotFound"


def test_driver_executes_code_in_another_process(server: MahavishnuServer) -> None:
    result = server.driver().execute("import os\nresult = {'pid': os.getpid(), 'sum': a + b}", a=1, b=2)
    assert result["sum"] == 3
    assert result["pid"] not in (os.getpid(), server.pid)


def test_killed_driver_raises_and_is_replaced_at_the_next_call(start_server: StartServer) -> None:
    server = start_server(started=False)
    driver = server.services_driver
    driver.services.create_pool(pool_id="pool_a")
    driver.kill()
    with pytest.raises(DriverExitedError):
        driver.services.drain_pool(pool_id="pool_a")
    assert server.services.drain_pool(pool_id="pool_a")["status"] == "draining"
    assert server.services_driver.pid != driver.pid


async def test_restarted_server_keeps_its_port_and_state(start_server: StartServer) -> None:
    server = start_server()
    create_workflow(server, "wf_kept")
    async with connect(server) as client:
        server.kill()
        with pytest.raises(ConnectionClosed):
            await client.next()
    assert not server.is_alive()
    server.restart()
    async with connect(server) as client:
        answer = await client.request("get_workflow_status", workflow_id="wf_kept")
    assert answer["data"]["status"] == "pending"


async def test_two_servers_with_one_database_send_the_same_events(start_server: StartServer) -> None:
    first = start_server()
    second = start_server(beside=first)
    create_workflow(first, "wf_shared")
    async with connect(first) as one, connect(second) as other:
        await one.subscribe("global")
        await other.subscribe("global")
        first.services.start_workflow(workflow_id="wf_shared")
        assert (await one.event("workflow.started"))["id"] == (await other.event("workflow.started"))["id"]


async def test_start_server_sets_a_limit_by_name(start_server: StartServer) -> None:
    server = start_server(max_subscriptions=1)
    async with connect(server) as client:
        await client.subscribe("workflow:a")
        assert (await client.request("subscribe", channel="workflow:b"))["type"] == "error"


def test_valkey_can_be_killed_paused_and_restarted(start_valkey: Callable[[], Valkey]) -> None:
    valkey = start_valkey()
    valkey.kill()
    assert not valkey.answers()
    valkey.start()
    valkey.pause()
    wait_until(lambda: not valkey.answers(), timeout_seconds=60)
    valkey.resume()
    wait_until(valkey.answers, timeout_seconds=60)


def test_manage_runs_in_the_environment_of_the_server(server: MahavishnuServer) -> None:
    done = server.manage(
        "shell", "--no-imports", "-c", "from django.conf import settings; print(settings.MAHAVISHNU_PORT)"
    )
    assert (done.returncode, done.stdout.strip()) == (0, str(server.port))


@pytest.mark.both_databases
@pytest.mark.django_db
def test_database_option_selects_the_database_of_django_tests(pytestconfig: pytest.Config) -> None:
    from django.db import connection

    vendors = {"sqlite": "sqlite", "postgres": "postgresql"}
    assert connection.vendor == vendors[pytestconfig.getoption("--database")]


@pytest.mark.parametrize("run", [1, 2])
@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_committed_rows_are_deleted_after_the_test_without_a_flush(run: int) -> None:
    from django.contrib.contenttypes.models import ContentType

    from orchestration import services
    from orchestration.models import Pool, Workflow

    assert not Pool.objects.exists()
    # The first ones, written by the migrations: `flush` would have created others.
    assert ContentType.objects.order_by("id").values_list("id", flat=True)[0] == 1
    services.create_pool(pool_id="pool")
    services.create_workflow(adapter="python", prompt="", stages=["one"], pool_id="pool")
    assert Workflow.objects.count() == 1
