"""Pages that people see when something is not as expected: errors, the health, the WebSocket's address, the login."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http.client import HTTPConnection, HTTPMessage
from typing import NamedTuple

import pytest
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import Http404, HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory, override_settings
from django.views.defaults import page_not_found, server_error
from playwright.async_api import Browser, expect

from dashboard.templatetags.first_account import create_account_command
from tests.connection.test_logins import log_in
from tests.harness.browser import open_page
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import REQUIRES_AUTH

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
NAVIGATION = '<nav class="rail" aria-label="Pages">'
CREATE_USER = "from django.contrib.auth.models import User\nUser.objects.create_user('someone')"


class Answer(NamedTuple):
    """A response whose body was read."""

    status: int
    headers: HTTPMessage
    text: str


def get(server: MahavishnuServer, path: str, *, method: str = "GET", **headers: str) -> Answer:
    connection = HTTPConnection(HOST, server.port, timeout=60)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    answer = Answer(response.status, response.headers, response.read().decode())
    connection.close()
    return answer


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "application/json, text/html"])
def test_health_is_json_for_programs(server: MahavishnuServer, accept: str) -> None:
    answer = get(server, "/health", Accept=accept) if accept else get(server, "/health")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.text.startswith('{"status": "healthy"')


@pytest.mark.browser
async def test_health_is_a_page_for_browsers(server: MahavishnuServer, browser: Browser) -> None:
    answer = get(server, "/health", Accept=BROWSER)
    assert (answer.status, answer.headers["Vary"]) == (200, "Accept")
    async with open_page(browser, f"{server.http_url}/health") as page:
        await expect(page.get_by_role("heading")).to_have_text("This server process is healthy")
        await expect(page.get_by_role("row", name="Redis")).to_contain_text("up")
        await expect(page.get_by_role("row", name="Relay lag (ms)")).to_have_count(1)
        await expect(page.get_by_role("row", name="Message rate limit (messages/s)")).to_have_count(1)
        await expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        await page.get_by_role("link", name="Go to the overview").click()
        await expect(page.locator("body")).to_have_attribute("data-connection", "live")


def test_health_shows_its_details_to_a_login_that_may_read_them(start_server: StartServer) -> None:
    server = start_server(environment={**REQUIRES_AUTH, "ALLOWED_HOSTS": "127.0.0.1,mahavishnu.example"})
    reader, root = log_in(server, "reader", "view_pool"), log_in(server, "root", is_superuser=True)
    assert "metrics:read" in get(server, "/health", Accept=BROWSER).text
    assert "metrics:read" in get(server, "/health", Accept=BROWSER, Cookie=reader).text
    assert "Max connections" in get(server, "/health", Accept=BROWSER, Cookie=root).text
    assert (
        "Max connections" not in get(server, "/health", Accept=BROWSER, Cookie=root, Sec_Fetch_Site="cross-site").text
    )


def test_page_of_a_missing_page_names_the_address_and_links_to_the_overview(server: MahavishnuServer) -> None:
    answer = get(server, "/<b>nowhere")
    assert answer.status == 404
    assert "There is no page at this address" in answer.text
    assert "<code>/&lt;b&gt;nowhere</code>" in answer.text
    assert '<a href="/">Go to the overview</a>' in answer.text
    assert "dashboard/tokens." in answer.text
    assert (NAVIGATION in answer.text, 'href="/admin/"' in answer.text) == (True, True)


def test_errors_have_the_navigation_for_a_browser_with_a_session(start_server: StartServer) -> None:
    server = start_server(environment=REQUIRES_AUTH)
    assert NAVIGATION not in get(server, "/nowhere").text
    page = get(server, "/nowhere", Cookie=log_in(server, "reader", "view_pool"))
    # The page asks no database who it is, so it offers no admin.
    assert (page.status, NAVIGATION in page.text, "/admin/" in page.text) == (404, True, False)


def test_foreign_host_and_unknown_form_are_answered_in_words(server: MahavishnuServer) -> None:
    host = get(server, "/", Host="evil.example")
    assert (host.status, "ALLOWED_HOSTS" in host.text) == (400, True)
    form = get(server, "/admin/login/", method="POST")
    assert (form.status, "reload the page, and send the form again" in form.text) == (403, True)


def test_forbidden_page_names_the_account(start_server: StartServer) -> None:
    server = start_server()
    cookie = log_in(server, "clerk")
    server.services_driver.execute("from django.contrib.auth.models import User\nUser.objects.update(is_staff=True)")
    answer = get(server, "/admin/orchestration/pool/", Cookie=cookie)
    assert (answer.status, "The account <code>clerk</code> lacks a permission" in answer.text) == (403, True)
    assert 'href="/admin/login/"' in answer.text


@pytest.mark.parametrize(("view", "status"), [(server_error, 500), (partial(page_not_found, exception=Http404()), 404)])
def test_page_of_an_error_asks_no_database(view: Callable[[HttpRequest], HttpResponse], status: int) -> None:
    """Without the mark `django_db`, pytest-django refuses every query."""
    request = RequestFactory().get("/", headers={"Cookie": f"{settings.SESSION_COOKIE_NAME}=forged"})
    SessionMiddleware(lambda _: HttpResponse()).process_request(request)
    AuthenticationMiddleware(lambda _: HttpResponse()).process_request(request)
    with override_settings(MAHAVISHNU_REQUIRE_AUTH=True):
        answer = view(request)
    text = answer.content.decode()
    assert (answer.status_code, '<a class="brand" href="/">' in text) == (status, True)
    assert (NAVIGATION in text) == (status == 404)


@pytest.mark.parametrize("serves", ["websocket", "pages", "both"])
def test_request_for_the_websocket_that_is_none_says_what_it_is(start_server: StartServer, serves: str) -> None:
    server = start_server(environment={"MAHAVISHNU_SERVES": serves})
    for path in ("/ws", "/ws/"):
        answer = get(server, path, Accept=BROWSER)
        assert (answer.status, answer.headers["Upgrade"]) == (426, "websocket")
        assert answer.text.startswith("This is the address of a WebSocket.")
    # The page of an error has no link to a page that the process does not serve.
    refused = get(server, "/", Host="evil.example")
    assert (refused.status, "Go to the overview" in refused.text) == (400, serves != "websocket")


def test_login_pages_say_how_to_create_the_first_account(start_server: StartServer) -> None:
    server = start_server()
    paths = ("/login", "/admin/login/")
    for path in paths:
        assert "<code>python manage.py createsuperuser</code>" in get(server, path).text
    server.services_driver.execute(CREATE_USER)
    for path in paths:
        assert "createsuperuser" not in get(server, path).text


@pytest.mark.django_db
def test_login_page_says_only_on_this_machine_that_there_is_no_account() -> None:
    def command_for(address: str) -> str:
        return create_account_command(
            {"request": AsyncRequestFactory().request(path="/login", client=(address, 50_000))}
        )

    assert (command_for("127.0.0.1"), command_for("192.0.2.1")) == ("python manage.py createsuperuser", "")
    with override_settings(MAHAVISHNU_EXPOSED=True):
        assert command_for("127.0.0.1") == ""
