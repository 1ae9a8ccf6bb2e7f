"""Logins to the admin: guesses are refused before a password is hashed, and logged."""

from __future__ import annotations

import http.client
import re
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import pytest
from django.conf import settings
from django.http import HttpRequest

from mahavishnu_site.logins import MAX_FAILURES_PER_ADDRESS, login_address
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer

Unique = Callable[[str], str]

PASSWORD = "correct horse battery staple"
CREATE_USER = """
from django.contrib.auth.models import User
User.objects.create_superuser(name, password=password)
"""
EXPIRE = """
from axes.models import AccessAttempt
from django.db.models import F
from django.conf import settings
AccessAttempt.objects.update(attempt_time=F("attempt_time") - settings.AXES_COOLOFF_TIME)
"""
COUNT = """
from axes.models import AccessAttempt
result = AccessAttempt.objects.count()
"""
GUESSES = 40
AT_ONCE = 8


COUNTS_HASHES = {"DJANGO_SETTINGS_MODULE": "tests.site.hash_counter"}


@pytest.fixture(scope="module")
def server(start_module_server: StartServer) -> MahavishnuServer:
    return start_module_server(environment={**COUNTS_HASHES, "MAHAVISHNU_OPEN_TO_EVERYONE": "1"})


@pytest.fixture(scope="module")
def postgres_server(start_module_server: StartServer) -> MahavishnuServer:
    return start_module_server(database="postgres", environment=COUNTS_HASHES)


@pytest.fixture
def user(server: MahavishnuServer, unique: Unique) -> str:
    return create_user(server, unique("user"))


def create_user(server: MahavishnuServer, name: str) -> str:
    server.services_driver.execute(CREATE_USER, name=name, password=PASSWORD)
    return name


def log_in(
    server: MahavishnuServer,
    name: str,
    password: str = PASSWORD,
    *,
    source: str,
    headers: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Send the admin's login form from a loopback address, and return the status and the page."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60, source_address=(source, 0))
    try:
        connection.request("GET", "/admin/login/")
        answer = connection.getresponse()
        answer.read()
        cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
        fields = {"csrfmiddlewaretoken": cookie.partition("=")[2], "username": name, "password": password}
        connection.request(
            "POST",
            "/admin/login/?next=/admin/",
            urllib.parse.urlencode(fields),
            {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie, **(headers or {})},
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def guess(server: MahavishnuServer, name: str, count: int, *, source: str) -> list[int]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda number: log_in(server, name, f"guess {number}", source=source)[0], range(count)))


def hash_count(server: MahavishnuServer) -> int:
    return (server.var_dir / "hashes").stat().st_size


@pytest.mark.parametrize("fixture", ["server", "postgres_server"])
def test_guesses_are_refused_before_a_password_is_hashed(
    request: pytest.FixtureRequest, fixture: str, unique: Unique
) -> None:
    server: MahavishnuServer = request.getfixturevalue(fixture)
    user, other = (create_user(server, unique("user")) for _ in range(2))
    before = hash_count(server)
    statuses = guess(server, user, GUESSES, source="127.0.0.11")
    # Those that arrive together may all be within the limit.
    assert hash_count(server) - before < settings.AXES_FAILURE_LIMIT + AT_ONCE
    assert statuses.count(HTTPStatus.TOO_MANY_REQUESTS) >= GUESSES - settings.AXES_FAILURE_LIMIT - AT_ONCE
    before = hash_count(server)
    assert log_in(server, user, source="127.0.0.11") == (
        HTTPStatus.TOO_MANY_REQUESTS,
        "Too many failed logins. Try again in 15 minutes.\n",
    )
    assert hash_count(server) == before
    assert log_in(server, other, source="127.0.0.11")[0] == HTTPStatus.FOUND
    assert log_in(server, user, source="127.0.0.12")[0] == HTTPStatus.FOUND
    server.services_driver.execute(EXPIRE)
    assert log_in(server, user, source="127.0.0.11")[0] == HTTPStatus.FOUND


def test_unknown_user_is_answered_like_a_known_one(server: MahavishnuServer, user: str, unique: Unique) -> None:
    known, unknown = (
        [answer_without_name(server, name) for _ in range(settings.AXES_FAILURE_LIMIT + 1)]
        for name in (user, unique("unknown"))
    )
    assert [status for status, _ in known] == [200] * (settings.AXES_FAILURE_LIMIT - 1) + [429, 429]
    assert unknown == known


def answer_without_name(server: MahavishnuServer, name: str) -> tuple[int, str]:
    status, page = log_in(server, name, "wrong", source="127.0.0.21")
    return status, re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", page.replace(name, "NAME"))


def test_failures_that_no_longer_count_are_deleted(server: MahavishnuServer, user: str, unique: Unique) -> None:
    guess(server, unique("name"), 1, source="127.0.0.13")
    assert server.services_driver.execute(COUNT) > 0
    server.services_driver.execute(EXPIRE)
    assert log_in(server, user, source="127.0.0.13")[0] == HTTPStatus.FOUND
    assert server.services_driver.execute(COUNT) == 0


def test_success_resets_the_count(server: MahavishnuServer, user: str) -> None:
    for _ in range(3):
        guess(server, user, settings.AXES_FAILURE_LIMIT - 2, source="127.0.0.31")
        assert log_in(server, user, source="127.0.0.31")[0] == HTTPStatus.FOUND


def test_address_with_many_names_is_refused(server: MahavishnuServer, user: str) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(
            pool.map(
                lambda number: log_in(server, f"name {number}", "x", source="127.0.0.41"),
                range(MAX_FAILURES_PER_ADDRESS),
            )
        )
    before = hash_count(server)
    assert log_in(server, user, source="127.0.0.41")[0] == HTTPStatus.TOO_MANY_REQUESTS
    assert hash_count(server) == before
    assert log_in(server, user, source="127.0.0.42")[0] == HTTPStatus.FOUND


@pytest.mark.parametrize(
    "headers",
    [
        {"User-Agent": "x" * 5000, "Accept": "y" * 5000},
        {"X-Forwarded-For": "127.0.0.99"},
        {"X-Requested-With": "XMLHttpRequest"},
    ],
)
def test_headers_change_nothing(server: MahavishnuServer, unique: Unique, headers: dict[str, str]) -> None:
    name = unique("user")
    statuses = [
        log_in(server, name, "wrong", source="127.0.0.51", headers=headers)[0]
        for _ in range(settings.AXES_FAILURE_LIMIT)
    ]
    assert statuses == [200] * (settings.AXES_FAILURE_LIMIT - 1) + [429]


def test_failures_are_logged_once_a_minute_and_escaped(start_server: StartServer) -> None:
    server = start_server(environment={**COUNTS_HASHES, "MAHAVISHNU_LOG_REPEAT_SECONDS": "60"})
    name = "root\x1b]0;title\x07\N{RIGHT-TO-LEFT OVERRIDE}"
    for _ in range(settings.AXES_FAILURE_LIMIT + 3):
        log_in(server, name, "wrong", source="127.0.0.61")
    lines = [line.partition(": ")[2] for line in server.log_text().splitlines() if "site.logins" in line]
    shown = r"'root\x1b]0;title\x07\u202e'"
    assert lines == [
        f"Failed login as {shown} from 127.0.0.61",
        f"Refused a login as {shown} from 127.0.0.61: too many failed logins",
    ]
    assert "\x1b" not in server.log_text()


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("unknown", None),
        ("", None),
    ],
)
def test_login_address_of_ipv6_is_its_network(peer: str, expected: str | None) -> None:
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = peer
    assert login_address(request) == expected
