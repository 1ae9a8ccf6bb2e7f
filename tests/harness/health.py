"""Reads the health report of a server."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from tests.harness.server import MahavishnuServer
from tests.harness.waiting import eventually

TIMEOUT_SECONDS = 20


def read_health(server: MahavishnuServer) -> tuple[int, dict[str, Any]]:
    """Return the status code and the report of `GET /health`."""
    try:
        with urllib.request.urlopen(f"{server.http_url}/health", timeout=TIMEOUT_SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


async def wait_for_connections(server: MahavishnuServer, count: int) -> None:
    """Wait until the server has this number of connections."""
    await eventually(lambda: bool(read_health(server)[1]["connections"] == count), what=f"{count} connections")
