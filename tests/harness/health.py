"""Reads the health report of a server."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from tests.harness.server import MahavishnuServer
from tests.harness.waiting import eventually, wait_until

TIMEOUT_SECONDS = 20
WITHIN_SECONDS = 60


def read_health(server: MahavishnuServer) -> tuple[int, dict[str, Any]]:
    """Return the status code and the report of `GET /health`."""
    try:
        with urllib.request.urlopen(f"{server.http_url}/health", timeout=TIMEOUT_SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def wait_for_health(server: MahavishnuServer, status_code: int) -> dict[str, Any]:
    """Wait until `GET /health` has this status code, because its checks may be a second old, and return the report."""
    answers: list[tuple[int, dict[str, Any]]] = []

    def has_status() -> bool:
        answers.append(read_health(server))
        return answers[-1][0] == status_code

    wait_until(has_status, timeout_seconds=WITHIN_SECONDS, what=lambda: f"{status_code}, not {answers[-1]}")
    return answers[-1][1]


async def wait_for_connections(server: MahavishnuServer, count: int) -> None:
    """Wait until the server has this number of connections."""
    await eventually(lambda: bool(read_health(server)[1]["connections"] == count), what=f"{count} connections")
