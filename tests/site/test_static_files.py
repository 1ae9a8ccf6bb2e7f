"""Static files, and paths that lead out of their folders."""

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
def test_static_files_return_404_for_paths_outside(server: MahavishnuServer, path: str, status: int) -> None:
    # Not urllib, which normalizes the path.
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert (answer.status, b"Internal" in answer.read()) == (status, False)
    connection.close()
