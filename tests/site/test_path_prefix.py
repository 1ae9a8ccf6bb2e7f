"""The server under a path, with a proxy that keeps the path or removes it, in a real browser."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, expect
from websockets.exceptions import InvalidStatus

from mahavishnu_site.env import UnexpectedValueError
from mahavishnu_site.path_prefix import refuse_other_root_path
from mahavishnu_site.web_access import parse_path_prefix
from tests.harness.browser import open_page
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST
from tests.harness.programs import run_to_end
from tests.harness.server import MahavishnuServer
from tests.harness.stripping_proxy import stripping_proxy

Unique = Callable[[str], str]

PREFIX = "/some/mahavishnu"
PASSWORD = "correct horse battery staple"
CREATE_USER = """
from django.contrib.auth.models import User
User.objects.create_superuser(name, password=password)
"""


@pytest.fixture(scope="module")
def kept(start_module_server: StartServer) -> MahavishnuServer:
    return start_module_server(environment={"MAHAVISHNU_PATH_PREFIX": PREFIX})


@pytest.fixture(scope="module")
def stripped(start_module_server: StartServer) -> MahavishnuServer:
    return start_module_server(
        environment={"MAHAVISHNU_PATH_PREFIX": f"{PREFIX}/", "MAHAVISHNU_PROXY_STRIPS_PREFIX": "1"}
    )


@asynccontextmanager
async def published(server: MahavishnuServer, *, is_stripped: bool) -> AsyncIterator[str]:
    """Return the address that clients use."""
    if is_stripped:
        async with stripping_proxy(server, PREFIX) as address:
            yield address
    else:
        yield f"{HOST}:{server.port}"


@pytest.mark.browser
@pytest.mark.parametrize("fixture", ["kept", "stripped"])
async def test_pages_and_websockets_work_under_a_prefix(
    request: pytest.FixtureRequest, fixture: str, browser: Browser, unique: Unique
) -> None:
    server: MahavishnuServer = request.getfixturevalue(fixture)
    name, pool_id = unique("user"), unique("pool")
    server.services_driver.execute(CREATE_USER, name=name, password=PASSWORD)
    async with published(server, is_stripped=fixture == "stripped") as address:
        for path in ("/", "/ws", "/ws/"):
            async with connect(f"ws://{address}{PREFIX}{path}") as client:
                assert client.welcome["event"] == "session.created"
        # An error in the console, such as a missing file, fails the test.
        async with open_page(browser, f"http://{address}{PREFIX}/pools") as page:
            await expect(page.locator("body")).to_have_attribute("data-connection", "live")
            server.services.create_pool(pool_id=pool_id)
            await page.get_by_role("link", name=pool_id).click()
            assert page.url == f"http://{address}{PREFIX}/pools/{pool_id}"
            await page.get_by_role("button", name="Drain", exact=True).click()
            await page.get_by_role("button", name="Drain the pool").click()
            await expect(page.get_by_role("button", name="Reopen")).to_be_visible()
            await page.get_by_role("link", name="Events").click()
            await expect(page.get_by_text(f"ws://{address}{PREFIX}/", exact=True)).to_be_visible()
            await page.get_by_role("link", name="Admin").click()
            await page.get_by_label("Username").fill(name)
            await page.get_by_label("Password").fill(PASSWORD)
            await page.get_by_role("button", name="Log in").click()
            assert page.url == f"http://{address}{PREFIX}/admin/"
            await page.get_by_role("link", name="Pools").first.click()
            assert page.url == f"http://{address}{PREFIX}/admin/orchestration/pool/"
            assert {cookie["path"] for cookie in await page.context.cookies()} == {PREFIX}
            await page.get_by_role("button", name="Log out").click()
            await expect(page.get_by_text("Logged out")).to_be_visible()
            await (
                page.get_by_role("link", name="View site")
                .or_(page.get_by_role("link", name="Log in again"))
                .first.click()
            )
            assert page.url.startswith(f"http://{address}{PREFIX}/")


@pytest.mark.parametrize(
    "path",
    ["/admin/login/", f"{PREFIX}{PREFIX}/admin/login/", f"/{PREFIX}/admin/login/", f"{PREFIX}x/admin/login/", "/"],
)
def test_path_without_the_prefix_or_with_two_is_not_found(kept: MahavishnuServer, path: str) -> None:
    assert status(kept, path) == 404


@pytest.mark.parametrize("path", [f"{PREFIX}/admin/login/", f"{PREFIX}/health", f"{PREFIX}/"])
def test_path_with_a_prefix_that_the_proxy_removes_is_not_found(stripped: MahavishnuServer, path: str) -> None:
    assert status(stripped, path) == 404


def status(server: MahavishnuServer, path: str) -> int:
    try:
        with urllib.request.urlopen(f"{server.http_url}{path}", timeout=20) as answer:
            code: int = answer.status
            return code
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.parametrize(("fixture", "path"), [("kept", "/ws"), ("kept", "/"), ("stripped", f"{PREFIX}/ws")])
async def test_websocket_with_the_other_path_is_rejected(
    request: pytest.FixtureRequest, fixture: str, path: str
) -> None:
    server: MahavishnuServer = request.getfixturevalue(fixture)
    with pytest.raises(InvalidStatus, match="403"):
        async with connect(server, path=path):
            pass


def test_rejected_path_is_answered_and_logged_in_words(start_server: StartServer) -> None:
    server = start_server(environment={"MAHAVISHNU_PATH_PREFIX": PREFIX, "MAHAVISHNU_LOG_REPEAT_SECONDS": "3600"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{server.http_url}/elsewhere", timeout=20)
    with caught.value as answer:
        assert answer.read().decode() == f"Not found. This server answers below {PREFIX}/\n"
    assert server.log_text().count("it is not below MAHAVISHNU_PATH_PREFIX=/some/mahavishnu") == 1


@pytest.mark.parametrize("fixture", ["kept", "stripped"])
def test_commands_find_a_server_with_a_prefix(request: pytest.FixtureRequest, fixture: str) -> None:
    server: MahavishnuServer = request.getfixturevalue(fixture)
    done = server.manage("emit_test_event", "workflow.started", "--id", "prefixed")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "value", ["mahavishnu", "//", "/a//b", "/a b", "/ä", "/a/../b", "/.", "/a?b", "https://host/a"]
)
def test_prefix_that_is_no_plain_path_is_rejected(value: str) -> None:
    with pytest.raises(UnexpectedValueError, match="a path such as /mahavishnu"):
        parse_path_prefix(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("/", ""), ("/mahavishnu", "/mahavishnu"), ("/a.b/c-d_e~/", "/a.b/c-d_e~"), ("/..a", "/..a")],
)
def test_prefix_is_read_without_its_last_slash(value: str, expected: str) -> None:
    assert parse_path_prefix(value) == expected


@pytest.mark.parametrize(
    "arguments", [[], ["--root-path", "/mv"], ["--root-path=/mv/", "-p", "1"], ["-b", "::1", "app"], ["--root-path"]]
)
def test_root_path_of_daphne_may_repeat_the_prefix(arguments: list[str]) -> None:
    refuse_other_root_path(arguments, "/mv")


def test_daphne_with_another_root_path_does_not_start(kept: MahavishnuServer) -> None:
    daphne = ("-m", "daphne", "--root-path", "/other", "-p", "0", "mahavishnu_site.asgi:application")
    done = run_to_end(*daphne, environment=kept.environment)
    assert done.returncode == 1
    assert "--root-path /other: set MAHAVISHNU_PATH_PREFIX=/other instead" in done.stderr
