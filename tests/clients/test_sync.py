"""The synchronous face of the Python client, and the fixture `fake_server`."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import nullcontext

import pytest

from mahavishnu_client.sync import (
    ClientClosed,
    ConnectionLost,
    Event,
    HistoryLost,
    NotFound,
    Options,
    RequestFailed,
    connect,
)
from mahavishnu_client.testing import FakeServer
from tests.harness.waiting import wait_until

pytest_plugins = ["mahavishnu_client.testing.plugin"]

QUICK = Options(first_retry_seconds=0.01, max_retry_seconds=0.05, request_timeout_seconds=10)


def test_events_are_delivered_once_and_in_order(fake_server: FakeServer) -> None:
    with connect(fake_server.url, options=QUICK) as client, client.events("pool:a") as events:
        client.wait_live(10)
        for _ in range(3):
            fake_server.emit("pool.drained", {"pool_id": "a"})
        fake_server.drop()
        fake_server.emit("pool.closed", {"pool_id": "a"})
        received = [next(events) for _ in range(4)]
        assert [item.name for item in received if isinstance(item, Event)] == ["pool.drained"] * 3 + ["pool.closed"]
        assert [item.seq for item in received] == [1, 2, 3, 4]


def test_position_lies_below_what_was_not_handled(fake_server: FakeServer) -> None:
    with connect(fake_server.url, options=QUICK) as client:
        events = client.events("pool:a")
        fake_server.wait_request("subscribe")
        client.wait_live(10)
        for _ in range(3):
            fake_server.emit("pool.drained", {"pool_id": "a"})
        assert next(events).seq == 1
        stored = str(client.position)
    with connect(fake_server.url, resume_from=stored, options=QUICK) as client:
        assert [next(client.events("pool:a")).seq] == [1]


def test_requests_return_typed_responses_or_raise(fake_server: FakeServer) -> None:
    fake_server.create_workflow("wf_1", stages=["load"])
    fake_server.respond("list_stages", {"workflow_id": "wf_1", "seq": 1, "epoch": "e", "stages": [], "next_after": 7})
    with connect(fake_server.url, options=QUICK) as client:
        assert client.get_workflow_status("wf_1").total_stages == 1
        assert client.list_stages("wf_1", status="failed", limit=5).next_after == 7
        assert fake_server.requests[-1] == (
            "list_stages",
            {"workflow_id": "wf_1", "status": "failed", "limit": 5},
        )
        with pytest.raises(NotFound):
            client.get_pool_status("nowhere")
        with pytest.raises(RequestFailed, match="INVALID_CHANNEL"):
            next(client.events("planet:mars"))


def test_states_are_folded_and_read_again(fake_server: FakeServer) -> None:
    with connect(fake_server.url, options=QUICK) as client:
        overviews, pools = client.overview(), client.pools()
        assert next(overviews).workflows == ()
        assert next(pools).pools == ()
        fake_server.create_workflow("wf_1", name="report", stages=["load"], params={"a": 1})
        run = next(client.follow("wf_1"))
        assert (run.name, run.params, run.is_live, run.is_finished) == ("report", {"a": 1}, True, False)
        assert [row.workflow_id for row in next(overviews).workflows] == ["wf_1"]
        fake_server.emit("pool.created", {"pool_id": "a"})
        assert [pool.pool_id for pool in next(pools).pools] == ["a"]
        assert next(client.pool("a")).workers == ()
        # Both iterators of the overview share one subscription.
        assert [data["channel"] for name, data in fake_server.requests if name == "subscribe"].count("summary") == 1


def test_following_ends_when_the_run_is_removed(fake_server: FakeServer) -> None:
    fake_server.create_workflow("wf_1", stages=["load"])
    with connect(fake_server.url, options=QUICK) as client:
        runs = client.follow("wf_1")
        assert next(runs).status == "pending"
        fake_server.emit("workflow.removed", {"workflow_id": "wf_1", "name": ""})
        assert list(runs) == []


def test_close_ends_iterators_and_fails_requests(fake_server: FakeServer) -> None:
    fake_server.hold_answers()
    client = connect(fake_server.url, options=QUICK).__enter__()
    events = client.events("pool:a")
    ended: list[object] = []

    def iterate() -> None:
        ended.extend(events)
        ended.append("ended")

    def ask() -> None:
        try:
            client.get_pool_status("a")
        except ClientClosed as error:
            ended.append(str(error))

    threads = [threading.Thread(target=target) for target in (iterate, ask)]
    for thread in threads:
        thread.start()
    fake_server.wait_request("get_pool_status")
    client.close()
    for thread in threads:
        thread.join(10)
    assert sorted(map(str, ended)) == ["The client was closed", "ended"]


def test_gap_is_an_item(fake_server: FakeServer) -> None:
    with connect(fake_server.url, options=QUICK) as client:
        events = client.events("pool:a")
        client.wait_live(10)
        fake_server.emit("pool.drained", {"pool_id": "a"})
        assert next(events).seq == 1
        fake_server.stop()
        fake_server.emit("pool.drained", {"pool_id": "a"})
        fake_server.trim()
        fake_server.start()
        lost = next(events)
        assert isinstance(lost, HistoryLost)
        assert (lost.channel, lost.reason, lost.seq) == ("pool:a", "trimmed", 2)


def test_connection_that_is_lost_fails_the_request_in_flight(fake_server: FakeServer) -> None:
    with connect(fake_server.url, options=QUICK) as client:
        fake_server.hold_answers()

        def drop() -> None:
            fake_server.wait_request("get_pool_status")
            fake_server.drop()

        dropping = threading.Thread(target=drop)
        dropping.start()
        with pytest.raises(ConnectionLost) as error:
            client.get_pool_status("a")
        assert error.value.maybe_done
        dropping.join()


def test_position_lies_at_the_last_event_that_was_handled(fake_server: FakeServer) -> None:
    with connect(fake_server.url, options=QUICK) as client:
        events = client.events("pool:a")
        fake_server.wait_request("subscribe")
        client.wait_live(10)
        for _ in range(5):
            fake_server.emit("pool.drained", {"pool_id": "a"})
        # They have arrived: an iterator takes all of them at once.
        fake_server.respond("list_pools", {"pools": [], "next_cursor": None, "seq": 5, "epoch": "e"})
        client.list_pools()
        assert [next(events).seq for _ in range(3)] == [1, 2, 3]
        assert client.position is not None
        assert client.position.seq == 2


def test_client_that_is_not_open_fails_calls(fake_server: FakeServer) -> None:
    client = connect(fake_server.url)
    with pytest.raises(ClientClosed, match="is not open: use `with connect"):
        client.get_pool_status("a")
    client.close()
    with connect(fake_server.url, options=QUICK) as client:
        runs = client.follow("wf_1")
    runs.close()
    assert list(runs) == []
    assert client.state == "closed"
    with pytest.raises(ClientClosed, match="was closed"):
        client.get_pool_status("a")


def test_child_of_a_fork_does_not_hang(fake_server: FakeServer) -> None:
    with connect(fake_server.url, options=QUICK) as client:
        client.wait_live(10)
        with pytest.warns(DeprecationWarning) if sys.version_info >= (3, 12) else nullcontext():
            pid = os.fork()
        if not pid:  # pragma: no cover
            try:
                client.probe()
            except ClientClosed:
                client.close()
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_close_ends_calls_of_other_threads(fake_server: FakeServer) -> None:
    fake_server.stop()
    client = connect(fake_server.url, options=QUICK).__enter__()
    ended: list[object] = []

    def wait() -> None:
        try:
            client.wait_live()
        except ClientClosed as error:
            ended.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: client.state == "offline", timeout_seconds=10)
    client.close()
    thread.join(10)
    assert ended == ["The client was closed"]
