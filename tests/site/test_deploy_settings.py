"""Security settings: the defaults, what an exposed server has in addition, and the output of `check --deploy`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.harness.interpreter import run_python
from tests.site.check_command import run_check

JWT_SECRET = "a secret of this test, with more than 32 bytes"
EXPOSED = {"ALLOWED_HOSTS": "127.0.0.1,mahavishnu.example"}

PRINT_SETTINGS = """
import json
from django.conf import settings
names = [name for name in dir(settings) if name.startswith(("SECURE_", "SESSION_", "CSRF_", "X_FRAME", "MAHAVISHNU_"))]
names += ["DEBUG", "ALLOWED_HOSTS", "MIDDLEWARE"]
print(json.dumps({name: getattr(settings, name) for name in names}, default=str))
"""

LOG_IN = """
import django, json
django.setup()
from django.test import Client
page = Client(headers={"host": "mahavishnu.example"}).get("/admin/login/", secure=True)
cookies = [cookie.OutputString() for cookie in page.cookies.values()]
print(json.dumps({"headers": dict(page.headers), "cookies": cookies}))
"""


def run_code(code: str, var_dir: Path, **variables: str) -> Any:
    """Run code with these variables and return the JSON that it prints."""
    done = run_python(var_dir, "-c", code, **variables)
    done.check_returncode()
    return json.loads(done.stdout)


def check_deploy(var_dir: Path, **variables: str) -> list[str]:
    """Return the ids that `manage.py check --deploy` reports."""
    return re.findall(r"^\?: \(([\w.]+)\)", run_check(var_dir, "--deploy", **variables).stderr, re.MULTILINE)


def test_defaults_are_closed(tmp_path: Path) -> None:
    settings = run_code(PRINT_SETTINGS, tmp_path)
    expected = {
        "DEBUG": False,
        "ALLOWED_HOSTS": ["localhost", "127.0.0.1", "[::1]", "127.0.0.1"],
        "MAHAVISHNU_HOST": "127.0.0.1",
        "MAHAVISHNU_ALLOWED_ORIGINS": [],
        "MAHAVISHNU_EXPOSED": False,
        "MAHAVISHNU_REQUIRE_TLS": False,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_DOMAIN": None,
        "SESSION_COOKIE_PATH": "/",
        "SESSION_SERIALIZER": "django.contrib.sessions.serializers.JSONSerializer",
        "CSRF_COOKIE_SAMESITE": "Lax",
        "CSRF_COOKIE_DOMAIN": None,
        "CSRF_TRUSTED_ORIGINS": [],
        "X_FRAME_OPTIONS": "DENY",
        "SECURE_CONTENT_TYPE_NOSNIFF": True,
        "SECURE_CROSS_ORIGIN_OPENER_POLICY": "same-origin",
        "SECURE_REFERRER_POLICY": "same-origin",
        "SECURE_PROXY_SSL_HEADER": None,
    }
    assert {name: settings[name] for name in expected} == expected
    middleware = {name.rpartition(".")[2] for name in settings["MIDDLEWARE"]}
    assert middleware >= {
        "security_headers_middleware",
        "SecurityMiddleware",
        "CsrfViewMiddleware",
        "XFrameOptionsMiddleware",
    }


def test_exposed_server_requires_tls_for_pages_and_cookies(tmp_path: Path) -> None:
    settings = run_code(PRINT_SETTINGS, tmp_path, MAHAVISHNU_PORT="9000", **EXPOSED)
    expected = {
        "DEBUG": False,
        "MAHAVISHNU_EXPOSED": True,
        "MAHAVISHNU_REQUIRE_TLS": True,
        "SECURE_SSL_REDIRECT": True,
        "SECURE_HSTS_SECONDS": 31_536_000,
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_NAME": "__Host-mahavishnu_session_9000",
        "CSRF_COOKIE_SECURE": True,
        "CSRF_COOKIE_NAME": "__Host-mahavishnu_csrf_9000",
    }
    assert {name: settings[name] for name in expected} == expected


def test_require_tls_can_be_set_apart_from_exposure(tmp_path: Path) -> None:
    settings = run_code(PRINT_SETTINGS, tmp_path, MAHAVISHNU_REQUIRE_TLS="0", **EXPOSED)
    assert (settings["SECURE_SSL_REDIRECT"], settings["SECURE_HSTS_SECONDS"]) == (False, 0)
    assert (settings["SESSION_COOKIE_SECURE"], settings["CSRF_COOKIE_NAME"]) == (False, "mahavishnu_csrf_8690")


def test_deploy_check_of_the_defaults_lists_only_what_tls_brings(tmp_path: Path) -> None:
    # HSTS, the redirect to HTTPS, and secure cookies: on loopback, there is no TLS.
    assert check_deploy(tmp_path) == ["security.W004", "security.W008", "security.W012", "security.W016"]


def test_deploy_check_of_an_exposed_server_that_requires_credentials_is_clean(tmp_path: Path) -> None:
    done = run_check(tmp_path, "--deploy", MAHAVISHNU_REQUIRE_AUTH="1", MAHAVISHNU_JWT_SECRET=JWT_SECRET, **EXPOSED)
    assert done.returncode == 0
    assert done.stdout + done.stderr == "System check identified no issues (2 silenced).\n"


@pytest.mark.parametrize(
    "variables", [EXPOSED, {"MAHAVISHNU_OPEN_TO_EVERYONE": "1"}, EXPOSED | {"MAHAVISHNU_OPEN_TO_EVERYONE": "1"}]
)
def test_deploy_check_fails_without_credentials(variables: dict[str, str], tmp_path: Path) -> None:
    done = run_check(tmp_path, "--deploy", **variables)
    assert done.returncode == 1
    assert "(mahavishnu.E001)" in done.stderr


def test_deploy_check_warns_about_debug_and_a_var_dir_that_others_can_list(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    found = check_deploy(tmp_path, DEBUG="1", **EXPOSED)
    assert found == ["mahavishnu.E001", "mahavishnu.W002", "security.W018"]


def test_login_page_over_tls_sets_a_host_cookie_and_hsts(tmp_path: Path) -> None:
    page = run_code(LOG_IN, tmp_path, **EXPOSED)
    assert page["headers"]["Strict-Transport-Security"] == "max-age=31536000"
    (cookie,) = page["cookies"]
    assert cookie.startswith("__Host-mahavishnu_csrf_8690=")
    assert {"Path=/", "Secure", "SameSite=Lax"} <= set(cookie.split("; "))


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("x", "1 characters, of at least 50"),
        ("0123456789" * 4 + "012345678", "49 characters, of at least 50"),
        ("x" * 64, "1 different characters, of at least 10"),
        ("012345678" * 9, "9 different characters, of at least 10"),
        (
            "django-insecure-0123456789abcdefghijklmnopqrstuvwxyz0123456789",
            "it begins with django-insecure-, as Django's examples do",
        ),
    ],
)
def test_weak_secret_key_is_refused_and_not_shown(key: str, reason: str, tmp_path: Path) -> None:
    done = run_check(tmp_path, SECRET_KEY=key)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"SECRET_KEY='***': expected a long, random text ({reason})\n"
