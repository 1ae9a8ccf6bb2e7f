"""The pages that start a workflow: the list, and a form made of the parameters of the function."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.harness.browser import open_page
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import REQUIRES_AUTH

REFUSED = ("the server responded with a status of 4",)
"""Chromium logs each answer that is an error."""

PASSWORD = "Wrq-7712-xyzzy"
CREATE_READER = """
from django.contrib.auth.models import Permission, User
user = User.objects.create_user("reader", password=password, is_staff=True)
user.user_permissions.add(Permission.objects.get(codename="view_workflow"))
"""
READ_RUN = """
from orchestration.models import Workflow
run = Workflow.objects.get(pk=workflow_id)
result = {"name": run.name, "prompt": run.prompt, "pool_id": run.pool_id, "params": run.params}
"""


LAUNCH = """
from orchestration.sdk.launch import launch_by_name
launch_by_name("ship_order", prompt=prompt, params=params, workflow_id=workflow_id, pool="carriers")
"""


@pytest.fixture(scope="module")
def shop(start_module_server: StartServer) -> MahavishnuServer:
    return start_module_server(environment={"MAHAVISHNU_APPS": "tests.dashboard.shop"})


def read_run(server: MahavishnuServer, workflow_id: str) -> Any:
    return server.services_driver.execute(READ_RUN, workflow_id=workflow_id)


async def press_start(page: Page) -> None:
    await page.get_by_role("button", name="Start", exact=True).click()


@pytest.mark.browser
async def test_list_is_searched_and_leads_to_the_form(shop: MahavishnuServer, browser: Browser) -> None:
    async with open_page(browser, f"{shop.http_url}/start") as page:
        await expect(page.get_by_role("link", name="demo_retry")).to_be_visible()
        await page.keyboard.press("/")
        await page.keyboard.type("ship order")
        row = page.locator(".definitions li")
        await expect(row).to_have_count(1)
        await expect(row).to_contain_text("Ship an order with carrier.")
        assert page.url.endswith("/start?q=ship+order")
        await page.keyboard.press("Escape")
        await page.keyboard.press("j")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Start ship_order")).to_be_visible()


@pytest.mark.browser
async def test_form_starts_the_run_that_its_fields_describe(shop: MahavishnuServer, browser: Browser) -> None:
    shop.services.create_pool(pool_id="packers")
    url = f"{shop.http_url}/start/ship_order?order=7&items=%5B%22a%22%5D&carrier=pigeon"
    async with open_page(browser, url) as page:
        await expect(page.get_by_label("order * required")).to_have_value("7")
        await expect(page.get_by_label("carrier")).to_have_value('"pigeon"')
        await expect(page.get_by_label("label")).to_have_attribute("placeholder", "label.pdf")
        await expect(page.locator("#hint-order")).to_have_text("whole number from 1 to 99 · The number of the order.")
        await page.get_by_label("address * required").fill("1 Street <b>")
        await page.get_by_label("is_gift").select_option("yes")
        await page.get_by_label("weight_kg").fill("2.5")
        await page.get_by_label("Prompt").fill("Ship it")
        await page.get_by_text("More", exact=True).click()
        await page.get_by_label("Pool").select_option("packers")
        await page.get_by_label("Id of the run").fill("order_7")
        await press_start(page)
        await page.wait_for_url("**/workflows/order_7")
        await page.go_back()
        await expect(page.get_by_label("address * required")).to_have_value("1 Street <b>")
    assert read_run(shop, "order_7") == {
        "name": "ship_order",
        "prompt": "Ship it",
        "pool_id": "packers",
        "params": {
            "order": 7,
            "address": "1 Street <b>",
            "carrier": "pigeon",
            "is_gift": True,
            "weight_kg": 2.5,
            "label": "label.pdf",
            "items": ["a"],
        },
    }


@pytest.mark.browser
async def test_page_of_a_run_leads_to_the_form_with_its_values(shop: MahavishnuServer, browser: Browser) -> None:
    params = {
        "order": 7,
        "address": "1 Street & <b> ü",
        "carrier": "pigeon",
        "is_gift": True,
        "weight_kg": 2.5,
        "label": "null",
        "items": ["a", "b=c&d"],
    }
    shop.services_driver.execute(LAUNCH, prompt="Ship it\nnow", params=params, workflow_id="again_1")
    async with open_page(browser, f"{shop.http_url}/workflows/again_1") as page:
        await page.get_by_role("link", name="Start again with these values").click()
        await expect(page.get_by_role("heading", name="Start ship_order")).to_be_visible()
        await page.reload()
        await page.get_by_label("Id of the run").fill("again_2")
        await press_start(page)
        await page.wait_for_url("**/workflows/again_2")
    assert read_run(shop, "again_2") == read_run(shop, "again_1")
    assert read_run(shop, "again_2")["params"] == params


@pytest.mark.browser
async def test_secret_is_in_no_address_and_is_asked_for_again(shop: MahavishnuServer, browser: Browser) -> None:
    async with open_page(browser, f"{shop.http_url}/start/pay_carrier") as page:
        secret = page.get_by_label("api_key * required")
        await expect(secret).to_have_attribute("type", "password")
        await page.get_by_label("order * required").fill("7")
        await secret.fill("s3cr3t key")
        await page.wait_for_url("**/start/pay_carrier?order=7")
        await expect(page.locator("body")).not_to_contain_text("s3cr3t")
        await page.get_by_text("More", exact=True).click()
        await page.get_by_label("Id of the run").fill("paid")
        await press_start(page)
        await page.wait_for_url("**/workflows/paid")
        await page.get_by_role("link", name="Start again").click()
        await expect(page.locator(".banner")).to_contain_text("These values of the run are secret")
        await expect(page.locator(".banner code")).to_have_text("api_key")
        await expect(secret).to_have_value("")
        await expect(page.get_by_label("order * required")).to_have_value("7")
    assert read_run(shop, "paid")["params"] == {"order": 7, "api_key": "***"}


@pytest.mark.browser
async def test_form_names_the_values_of_a_run_that_no_link_has_room_for(
    shop: MahavishnuServer, browser: Browser
) -> None:
    params = {"order": 7, "address": "x" * 2_001, "label": "", "items": ["é" * 500] * 3}
    shop.services_driver.execute(LAUNCH, prompt="p" * 1_990, params=params, workflow_id="large")
    async with open_page(browser, f"{shop.http_url}/workflows/large") as page:
        await expect(page.get_by_text("The link leaves out address, items")).to_be_visible()
        link = page.get_by_role("link", name="Start again with these values")
        assert len(await link.get_attribute("href") or "") < 7_000
        await link.click()
        banner = page.locator(".banner")
        await expect(banner).to_contain_text("so they are not filled in: address, items.")
        await expect(page.get_by_label("order * required")).to_have_value("7")
        await expect(page.get_by_label("Prompt")).to_have_value("p" * 1_990)
        await page.get_by_label("address * required").fill("home")
        await expect(banner).not_to_contain_text("address")


@pytest.mark.browser
async def test_form_shows_what_is_wrong_at_the_field(shop: MahavishnuServer, browser: Browser) -> None:
    async with open_page(browser, f"{shop.http_url}/start/ship_order", allowed_errors=REFUSED) as page:
        await page.get_by_label("order * required").fill("100")
        await page.get_by_label("items").fill('{"a": 1}')
        await press_start(page)
        await expect(page.locator("#wrong-order")).to_have_text("✕ At most 99")
        await expect(page.locator("#wrong-address")).to_have_text("✕ A value is required")
        await expect(page.locator("#wrong-items")).to_contain_text("Write a list in JSON")
        await expect(page.get_by_label("order * required")).to_be_focused()
        await page.get_by_label("order * required").fill("1")
        await page.get_by_label("address * required").fill("home")
        await page.get_by_label("items").fill("[1]")
        await press_start(page)
        # The page checks no items: the server does.
        await expect(page.locator("#wrong-items")).to_contain_text("expected list[str]")
        await page.get_by_label("items").fill("")
        await page.get_by_label("address * required").fill("nowhere")
        await press_start(page)
        await expect(page.get_by_role("alert")).to_contain_text("no carrier goes there")


@pytest.mark.browser
async def test_form_takes_no_number_that_it_would_change(shop: MahavishnuServer, browser: Browser) -> None:
    async with open_page(browser, f"{shop.http_url}/start/build_car?constructor=Ada") as page:
        await page.get_by_label("weight_kg").fill("1e999")
        await page.get_by_label("sizes").fill("[1, 9007199254740993]")
        await page.get_by_label("Other parameters").fill('{"paint": {"layers": 1e400}}')
        await press_start(page)
        for name in ("weight_kg", "sizes", "more"):
            await expect(page.locator(f"#wrong-{name}")).to_contain_text("cannot send so large a number exactly")


@pytest.mark.browser
async def test_parameter_may_be_named_as_a_property_of_every_object(shop: MahavishnuServer, browser: Browser) -> None:
    async with open_page(browser, f"{shop.http_url}/start/build_car") as page:
        await press_start(page)
        await expect(page.locator("#wrong-constructor")).to_have_text("✕ A value is required")
        await page.get_by_label("constructor * required").fill("Ada")
        await page.get_by_label("Other parameters").fill('{"paint": "red", "doors": 5}')
        await page.get_by_label("Prompt").fill("-fast")
        await expect(page.locator(".command code")).to_have_text(
            "python manage.py run_workflow build_car --param constructor=Ada --param paint=red --param doors=5"
            " --prompt=-fast"
        )
        await press_start(page)
        await page.wait_for_url("**/workflows/wf_*")
        run = read_run(shop, page.url.rsplit("/", 1)[1])
    assert run["params"] == {"constructor": "Ada", "weight_kg": 1.0, "sizes": None, "paint": "red", "doors": 5}


@pytest.mark.browser
async def test_unknown_workflow_suggests_the_nearest_name(shop: MahavishnuServer, browser: Browser) -> None:
    async with open_page(browser, f"{shop.http_url}/start/ship_ordr") as page:
        await expect(page.get_by_role("heading", name="There is no workflow ship_ordr")).to_be_visible()
        await page.get_by_role("link", name="ship_order").click()
        await expect(page.get_by_label("address * required")).to_be_visible()


@pytest.mark.browser
async def test_user_who_may_not_start_sees_the_parameters(start_server: StartServer, browser: Browser) -> None:
    server = start_server(environment=REQUIRES_AUTH | {"MAHAVISHNU_APPS": "tests.dashboard.shop"})
    server.services_driver.execute(CREATE_READER, password=PASSWORD)
    async with open_page(browser, f"{server.http_url}/start/ship_order", allowed_errors=REFUSED) as page:
        await page.get_by_label("Username").fill("reader")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("You may not start it.")).to_be_visible()
        await expect(page.get_by_role("row", name="address text required")).to_be_visible()
        await expect(page.get_by_role("button", name="Start", exact=True)).to_have_count(0)
