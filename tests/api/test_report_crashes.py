"""Reports over HTTP to a real server that is killed, and from many clients at once."""

from __future__ import annotations

import http.client
import json
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

_STORED = """
import json
from realtime.models import Event
result = [(name, json.loads(data).get("n")) for name, data in Event.objects.order_by("seq").values_list("name", "data")]
"""

_BY_WRITER = """
import json
from realtime.models import Event
result = {}
for data in Event.objects.filter(name="load.written").order_by("seq").values_list("data", flat=True):
    written = json.loads(data)
    result.setdefault(str(written["writer"]), []).append(written["n"])
"""


def post(server: MahavishnuServer, events: Any, **headers: str) -> tuple[int, dict[str, str], Any]:
    """Send a request and return the status, the headers and the body of the answer."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
    try:
        connection.request(
            "POST", "/api/v1/events", json.dumps(events), {"Content-Type": "application/json", **headers}
        )
        response = connection.getresponse()
        return response.status, dict(response.headers), json.loads(response.read())
    finally:
        connection.close()


def send_and_read_no_answer(server: MahavishnuServer, events: Any, key: str) -> socket.socket:
    """Send a request whose answer gets lost: nothing reads it."""
    body = json.dumps(events).encode()
    head = (
        f"POST /api/v1/events HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection((HOST, server.port))
    connection.sendall(head.encode() + body)
    return connection


def numbered(*numbers: int) -> list[dict[str, Any]]:
    return [{"event": "deploy.finished", "data": {"n": number}} for number in numbers]


def stored(server: MahavishnuServer) -> list[int]:
    return [n for name, n in server.services_driver.execute(_STORED) if name == "deploy.finished"]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_request_is_stored_once_if_the_server_is_killed_between_commit_and_answer(
    start_server: StartServer, database: str
) -> None:
    server = start_server(database=database)
    events = numbered(*range(20))
    with send_and_read_no_answer(server, events, "k1"):
        wait_until(lambda: bool(stored(server)), timeout_seconds=20, what="the commit")
        server.kill()
    server.start()
    status, headers, answer = post(server, events, **{"Idempotency-Key": "k1"})
    assert (status, headers.get("Idempotency-Replayed")) == (200, "true")
    assert len({result["seq"] for result in answer["results"]}) == 20
    assert stored(server) == list(range(20))


@pytest.mark.chaos
def test_requests_are_stored_once_whenever_the_server_is_killed(start_server: StartServer) -> None:
    server = start_server()
    shuffle = random.Random(11)
    expected: list[int] = []
    for number in range(20):
        events = numbered(*range(number * 100, number * 100 + 100))
        with send_and_read_no_answer(server, events, f"k{number}"):
            time.sleep(shuffle.uniform(0, 0.1))
            server.kill()
        server.start()
        status, _, _ = post(server, events, **{"Idempotency-Key": f"k{number}"})
        assert status == 200
        expected += range(number * 100, number * 100 + 100)
        assert stored(server) == expected


@pytest.mark.parametrize(("writers", "batches"), [(5, 2), pytest.param(50, 10, marks=pytest.mark.chaos)])
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_reports_of_many_writers_keep_their_orders(
    start_server: StartServer, database: str, writers: int, batches: int
) -> None:
    server = start_server(database=database)

    def write(writer: int) -> list[int]:
        seqs: list[int] = []
        for batch in range(batches):
            run = {"workflow_id": f"shared-{batch % 3}", "adapter": "a", "pool_id": f"pool-{writer % 4}"}
            events: list[dict[str, Any]] = [{"event": "workflow.started", "data": run}]
            events += [
                {"event": "load.written", "data": {"writer": writer, "n": batch * 99 + number}} for number in range(99)
            ]
            while (answer := post(server, events, **{"Idempotency-Key": f"{writer}-{batch}"}))[0] == 503:
                time.sleep(float(answer[1]["Retry-After"]))
            assert answer[0] == 200, answer
            seqs += [result["seq"] for result in answer[2]["results"] if result["changed"]]
        return seqs

    with ThreadPoolExecutor(writers) as threads:
        answered = list(threads.map(write, range(writers)))
    assert all(seqs == sorted(seqs) for seqs in answered)
    everything = [seq for seqs in answered for seq in seqs]
    assert len(set(everything)) == len(everything) >= writers * batches * 99
    by_writer = server.services_driver.execute(_BY_WRITER)
    assert by_writer == {str(writer): list(range(batches * 99)) for writer in range(writers)}
