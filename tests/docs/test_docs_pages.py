"""`docs/pages.md`: its addresses have pages, and its keys are those of the pages."""

from __future__ import annotations

import re
from http import HTTPStatus

import pytest
from django.test import Client

from tests.docs.markdown import PROJECT_DIR, page, table

SCRIPTS = PROJECT_DIR / "dashboard" / "static" / "dashboard"
ADDRESSES = table(page("docs/pages.md"), first="Address")
KEYS = table(page("docs/pages.md"), first="Key")


def script(name: str) -> str:
    return (SCRIPTS / name).read_text(encoding="utf-8")


@pytest.mark.django_db
@pytest.mark.parametrize("row", ADDRESSES, ids=lambda row: row["Address"])
def test_address_has_a_page(row: dict[str, str], client: Client) -> None:
    path = row["Address"].strip("`").replace("ID", "wf_1").replace("NAME", "demo_retry")
    answer = client.get(path, headers={"accept": "text/html"})
    assert answer["Content-Type"].startswith("text/html")
    # The test process has no relay.
    assert answer.status_code == (HTTPStatus.SERVICE_UNAVAILABLE if path == "/health" else HTTPStatus.OK)


@pytest.mark.parametrize("row", ADDRESSES, ids=lambda row: row["Address"])
def test_parameters_are_those_that_the_page_reads(row: dict[str, str]) -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in SCRIPTS.rglob("*.js"))
    for parameter in re.findall(r"`([a-z]+)`", row["Parameters"]):
        assert f'.get("{parameter}")' in sources or f'.getAll("{parameter}")' in sources
    for tab in re.findall(r"`#([a-z]+)`", row["Parameters"]):
        assert f'"{tab}"' in script("pages/workflow.js").split("const TABS", 1)[1].splitlines()[0]


def test_keys_are_those_that_the_pages_list() -> None:
    listed = re.findall(r'^  \["(.+)", "(.+)"\],$', script("keys.js"), re.MULTILINE)
    assert [(row["Key"].strip("`"), row["Purpose"]) for row in KEYS] == listed
