"""`DEBUG=1`, which the documents forbid: its error pages show settings, but no secret, and no check is weaker."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

SECRET_KEY = "probe-secret-key-" + "Qx7" * 20
PASSWORD = "probe-password"


@pytest.fixture(scope="module")
def debug_server(start_module_server: StartServer) -> MahavishnuServer:
    url = f"redis://user:{PASSWORD}@127.0.0.1:1/0"
    return start_module_server(redis_url=url, environment={"DEBUG": "1", "SECRET_KEY": SECRET_KEY})


def test_debug_page_for_a_foreign_host_shows_no_secret(debug_server: MahavishnuServer) -> None:
    request = urllib.request.Request(f"{debug_server.http_url}/", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    page = caught.value.read().decode()
    assert caught.value.code == 400
    assert "CHANNEL_LAYERS" in page, "Django shows the settings"
    assert SECRET_KEY not in page
    assert PASSWORD not in page


def test_debug_accepts_no_other_origin(debug_server: MahavishnuServer) -> None:
    headers = {"Origin": "https://evil.example"}
    with pytest.raises(InvalidStatus) as refused, connect(debug_server.ws_url, additional_headers=headers):
        pass
    assert refused.value.response.status_code == 403
