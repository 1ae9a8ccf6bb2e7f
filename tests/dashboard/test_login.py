"""The login of the pages, on a server that requires credentials."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from playwright.async_api import Browser, expect

from tests.harness.browser import open_page
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import REQUIRES_AUTH

PASSWORD = "Wrq-7712-xyzzy"
CREATE_USER = """
from django.contrib.auth.models import User
User.objects.create_user("reader", password=password)
"""
CREATE_STAFF = """
from django.contrib.auth.models import User
User.objects.create_user("keeper", password=password, is_staff=True)
"""


@pytest.fixture(scope="module")
def closed(start_module_server: StartServer) -> MahavishnuServer:
    return start_module_server(environment=REQUIRES_AUTH)


@pytest.mark.browser
async def test_user_without_staff_logs_in_sees_what_is_forbidden_and_logs_out(
    closed: MahavishnuServer, browser: Browser
) -> None:
    async with open_page(browser, f"{closed.http_url}/events?channel=pool:b") as page:
        await expect(page.get_by_text("python manage.py createsuperuser")).to_be_visible()
        closed.services_driver.execute(CREATE_USER, password=PASSWORD)
        await page.get_by_label("Username").fill("reader")
        await page.get_by_label("Password").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("Please enter a correct username and password")
        await expect(page.get_by_text("createsuperuser")).to_have_count(0)
        password = page.get_by_label("Password")
        await expect(password).to_be_focused()
        await expect(password).to_have_accessible_description(re.compile("Please enter a correct username"))
        await expect(password).to_have_attribute("aria-invalid", "true")
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="You may not see the events of pool:b")).to_be_visible()
        assert page.url == f"{closed.http_url}/events?channel=pool:b"
        await expect(page.locator("#viewer")).to_contain_text("reader")
        await expect(page.get_by_role("link", name="Admin")).to_have_count(0)
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        await page.goto(f"{closed.http_url}/workflows")
        await expect(page).to_have_url(f"{closed.http_url}/login?next=/workflows")


@pytest.mark.browser
async def test_staff_has_a_link_to_the_admin(start_server: StartServer, browser: Browser) -> None:
    server = start_server(environment=REQUIRES_AUTH)
    server.services_driver.execute(CREATE_STAFF, password=PASSWORD)
    async with open_page(browser, f"{server.http_url}/docs") as page:
        await page.get_by_label("Username").fill("keeper")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("link", name="Admin")).to_have_attribute("href", "/admin/")


@pytest.mark.django_db
def test_login_leads_to_no_other_site(django_user_model: Any) -> None:
    django_user_model.objects.create_user("ada", password=PASSWORD)
    for given, shown in (("https://evil.example/", "/"), ("//evil.example", "/"), ("/pools?a=1", "/pools?a=1")):
        answer = Client().post("/login", {"username": "ada", "password": PASSWORD, "next": given})
        assert (answer.status_code, answer["Location"]) == (HTTPStatus.FOUND, shown)


@pytest.mark.django_db
def test_guesses_are_refused_and_forms_of_other_sites_too() -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post("/login", {"username": "ada", "password": "x"}).status_code == HTTPStatus.FORBIDDEN
    assert client.post("/logout").status_code == HTTPStatus.FORBIDDEN
    assert Client().get("/logout").status_code == HTTPStatus.METHOD_NOT_ALLOWED
    statuses = []
    for number in range(settings.AXES_FAILURE_LIMIT + 1):
        token = re.findall(r'csrfmiddlewaretoken" value="(\w+)"', client.get("/login").content.decode())[0]
        form = {"username": "ada", "password": f"guess {number}", "csrfmiddlewaretoken": token}
        statuses.append(client.post("/login", form).status_code)
    assert statuses[-1] == HTTPStatus.TOO_MANY_REQUESTS
