"""The settings as a whole, through `manage.py check`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings

from mahavishnu_site.celery_config import BROKER_URL_EXPECTED
from mahavishnu_site.checks import INTERNAL_VARIABLES
from tests.harness.programs import PROJECT_DIR
from tests.site.check_command import run_check


def test_settings_report_every_invalid_variable_without_passwords(tmp_path: Path) -> None:
    done = run_check(
        tmp_path,
        MAHAVISHNU_HOST="999.1.1.1",
        MAHAVISHNU_PORT="0",
        DATABASE_URL="mysql://user:secret@host/name",
        REDIS_URL="redis://localhost,http://user:secret@host",
        DEBUG="maybe",
        ALLOWED_HOSTS="localhost,example.org:80",
        MAHAVISHNU_ALLOWED_ORIGINS="https://example.org,example.org",
        MAHAVISHNU_TRUSTED_PROXIES="10.0.0.5,10.0.0.5/8",
        MAHAVISHNU_MAX_CONNECTIONS="0",
        MAHAVISHNU_RELAY_POLL_SECONDS="soon",
        MAHAVISHNU_APPS="tests.jobs,__main__",
        MAHAVISHNU_ADAPTERS="crew=nowhere.Crew",
        CELERY_BROKER_URL="http://user:secret@host",
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "MAHAVISHNU_HOST='999.1.1.1': expected an IP address or a host name, such as 127.0.0.1 or ::1",
        "MAHAVISHNU_PORT='0': expected a whole number from 1 to 65535",
        "DATABASE_URL='mysql://***@host/***': expected sqlite:///path/to/file or "
        "postgres://user:password@host:port/name",
        "REDIS_URL='redis://localhost,http://***@host': expected redis://host:port/number, "
        "rediss://host:port/number or unix:///path/to/socket",
        "DEBUG='maybe': expected 1, true, yes or on, or else 0, false, no or off",
        "ALLOWED_HOSTS='localhost,example.org:80': expected host names without scheme, port or path, separated by "
        "commas, such as example.org,[::1], .example.org with the names below it, or *; 'example.org:80' matches "
        "nothing: write example.org",
        "MAHAVISHNU_ALLOWED_ORIGINS='https://example.org,example.org': expected origins separated by commas, such as "
        "https://example.org,http://example.org:8080 or https://*.example.org; 'example.org' has no scheme: "
        "write https://example.org",
        "MAHAVISHNU_TRUSTED_PROXIES='10.0.0.5,10.0.0.5/8': expected addresses or networks separated by commas, such as "
        "10.0.0.5,10.1.0.0/16,fd00::/8; 10.0.0.5/8 has host bits set",
        "MAHAVISHNU_MAX_CONNECTIONS='0': expected a whole number from 1 to 1000000",
        "MAHAVISHNU_RELAY_POLL_SECONDS='soon': expected a number from 0.02 to 2",
        "MAHAVISHNU_APPS='tests.jobs,__main__': expected dotted names of Python packages separated by commas, "
        "such as shop,warehouse.jobs; __main__ was not found",
        "MAHAVISHNU_ADAPTERS='crew=nowhere.Crew': expected names and classes separated by commas, such as "
        "crew=shop.adapters.CrewAdapter; nowhere was not found",
        f"CELERY_BROKER_URL='http://***@host': expected {BROKER_URL_EXPECTED} (No such transport: http)",
    ]


def test_settings_reject_a_var_dir_that_cannot_be_created(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    done = run_check(file / "var")
    assert done.returncode == 1
    assert done.stderr == (
        f"MAHAVISHNU_VAR_DIR='{file}/var': expected a folder that this user can create and write to (Not a directory)\n"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"\xc3\xa9", "not ASCII"), (b"secret", "6 characters, of at least 50")],
)
def test_settings_reject_an_unusable_secret_key(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_bytes(content)
    done = run_check(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"MAHAVISHNU_VAR_DIR='{tmp_path}': expected a folder whose file secret_key is readable, long, random "
        f"ASCII text, or a folder without this file, so that a new key is created ({reason})\n"
    )


def test_settings_do_not_read_the_secret_key_file_if_the_variable_is_set(tmp_path: Path) -> None:
    (tmp_path / "secret_key").touch()
    done = run_check(tmp_path, SECRET_KEY="0123456789abcdef" * 4)
    assert (done.returncode, done.stderr) == (0, "")


def test_settings_create_the_var_dir_and_need_no_other_variable(tmp_path: Path) -> None:
    done = run_check(tmp_path / "new" / "var")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "new" / "var").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("variables", "value", "maximum"),
    [
        ({"MAHAVISHNU_HEARTBEAT_SECONDS": "20"}, "20", "2"),
        ({"MAHAVISHNU_LEASE_SECONDS": "1.5"}, "1", "0.75"),
        ({"MAHAVISHNU_HEARTBEAT_SECONDS": "3", "MAHAVISHNU_WORKER_TIMEOUT_SECONDS": "5"}, "3", "2.5"),
    ],
)
def test_settings_reject_a_heartbeat_interval_above_half_the_timeout(
    variables: dict[str, str], value: str, maximum: str, tmp_path: Path
) -> None:
    done = run_check(tmp_path, **variables)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"MAHAVISHNU_HEARTBEAT_SECONDS='{value}': expected at most half of MAHAVISHNU_WORKER_TIMEOUT_SECONDS and of "
        f"MAHAVISHNU_LEASE_SECONDS, which is {maximum}\n"
    )


def test_settings_reject_two_adapters_of_one_name(tmp_path: Path) -> None:
    done = run_check(tmp_path, MAHAVISHNU_ADAPTERS="a=orchestration.sdk.Run,a=orchestration.sdk.Context")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "MAHAVISHNU_ADAPTERS='a=orchestration.sdk.Run,a=orchestration.sdk.Context': expected each name once, with one "
        "class\n"
    )


def test_check_warns_about_variables_without_effect(tmp_path: Path) -> None:
    done = run_check(tmp_path, MAHAVISHNU_MAX_CONECTIONS="5", MAHAVISHNU_INTERFACE="127.0.0.1", MAHAVISHNU_GO_ON="1")
    assert done.returncode == 1
    assert "?: (mahavishnu.W003) The variable MAHAVISHNU_GO_ON has no effect.\n\tHINT: docs/conf" in done.stderr
    assert "MAX_CONECTIONS has no effect.\n\tHINT: Did you mean MAHAVISHNU_MAX_CONNECTIONS?\n" in done.stderr
    assert "2 issues" in done.stderr


def test_internal_variables_are_those_that_the_project_sets_and_no_setting_reads() -> None:
    folders = [PROJECT_DIR / "orchestration", PROJECT_DIR / "mahavishnu_site" / "serve"]
    sources = [path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py")]
    named = {name for source in sources for name in re.findall(r'"(MAHAVISHNU_[A-Z_]+)"', source)}
    assert {name for name in named if not hasattr(settings, name)} == INTERNAL_VARIABLES
