"""Static files are served, and nothing else is."""

from __future__ import annotations

from http.client import HTTPConnection

import pytest

from tests.harness.server import MahavishnuServer


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/static/realtime/index.js", 200),
        ("/static/realtime/no.js", 404),
        ("/static/../../manage.py", 404),
        ("/static/realtime/%2e%2e/%2e%2e/%2e%2e/settings.py", 404),
        ("/static//etc/passwd", 404),
    ],
)
def test_a_path_that_leads_elsewhere_is_not_found(server: MahavishnuServer, path: str, status: int) -> None:
    # As written: other clients tidy a path up before they ask for it.
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert (answer.status, b"Internal" in answer.read()) == (status, False)
    connection.close()
