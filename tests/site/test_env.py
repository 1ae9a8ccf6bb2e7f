"""What each variable may be, and what is said about one that may not."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from django.db import connection
from django.db.backends.postgresql.base import DatabaseWrapper

from mahavishnu_site.backends import parse_database_url, parse_redis_url
from mahavishnu_site.celery_config import BROKER_URL_EXPECTED, parse_broker_url
from mahavishnu_site.env import (
    Environment,
    InvalidEnvironmentError,
    UnexpectedValueError,
    parse_host,
    parse_named_path,
    parse_origin,
    parse_package,
    without_password,
)
from tests.harness.server import clean_environment
from tests.harness.services import PROJECT_DIR


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    most_things: int = field(default=5, metadata={"minimum": 1, "maximum": 9, "help": ""})
    wait_seconds: float = field(default=0.5, metadata={"minimum": 0.0, "maximum": 2.5, "help": ""})


def bounds(**variables: str) -> Bounds:
    environment = Environment(variables)
    fields = environment.fields(Bounds, prefix="X_")
    environment.raise_errors()
    return fields


FLAGS = {"1": True, "true": True, "Yes": True, "ON": True, "0": False, "FALSE": False, "no": False, "off": False}

REFUSED_FLAGS = ["maybe", "2", "-1", "truee", "t"]

WHOLE_NUMBERS = {"1": 1, "9": 9, " 3 ": 3, "007": 7}

REFUSED_WHOLE_NUMBERS = ["0", "10", "-3", "abc", "3.0", "1e0", "1_0", "٣", "0x3", "9" * 400]

NUMBERS = {"0": 0.0, "2.5": 2.5, "1": 1.0, "1e-3": 0.001}

REFUSED_NUMBERS = ["-0.1", "2.51", "nan", "inf", "half", "1,5"]

HOSTS = {
    "127.0.0.1": "127.0.0.1",
    "0.0.0.0": "0.0.0.0",
    "::1": "::1",
    "[::1]": "::1",
    "0:0:0:0:0:0:0:1": "::1",
    "localhost": "localhost",
    "server-1.example.org": "server-1.example.org",
}

REFUSED_HOSTS = ["999.1.1.1", "127.0.0", "http://localhost", "a b", "-a.example", "a..b", "host:80", "::g", "a" * 254]

ORIGINS = {
    "https://example.org": "https://example.org",
    "HTTPS://Example.ORG": "https://example.org",
    "http://localhost:3000": "http://localhost:3000",
    "http://[::1]:3000": "http://[::1]:3000",
    "chrome-extension://abcdef": "chrome-extension://abcdef",
}

REFUSED_ORIGINS = ["example.org", "https://", "https://example.org/", "https://a@b", "https://a:b", "*", "null"]

REFUSED_DATABASES = [
    "mysql://user:password@host/name",
    "sqlite://",
    "sqlite:///",
    "sqlite://:memory:",
    "postgres://host",
    "postgres://host:port/name",
    "name.sqlite3",
]

REDISES = [
    "redis://localhost",
    "redis://:password@localhost:6379/1",
    "rediss://localhost:6379/0",
    "unix:///run/valkey.sock",
    "unix:///run/valkey.sock?db=1",
]

REFUSED_REDISES = [
    "localhost:6379",
    "http://localhost",
    "redis://",
    "unix://",
    "redis://host:port",
    "redis://host/name",
]


# The value, and what is said of it beyond the form that was expected.
REFUSED_PACKAGES = {
    "": "",
    "a-b": "",
    "shop..jobs": "",
    "nowhere": "; there is no nowhere",
    "tests.nowhere": "; there is no tests.nowhere",
    "tests.site.conftest.nowhere": "; there is no tests.site.conftest.nowhere",
    "nowhere.jobs": "; there is no nowhere.jobs",
}

REFUSED_NAMED_PATHS = {
    "crew": "",
    "=shop.Crew": "",
    "crew=Crew": "",
    "crew=shop Crew": "",
    "crew=nowhere.Crew": "; there is no nowhere",
    "crew=orchestration.nowhere.Crew": "; there is no orchestration.nowhere",
}

BROKERS = {
    "redis://localhost:6379/1": "redis://localhost:6379/1",
    "rediss://:password@localhost": "rediss://:password@localhost",
    "unix:///run/valkey.sock": "redis+socket:///run/valkey.sock",
    "redis+socket:///run/valkey.sock": "redis+socket:///run/valkey.sock",
    "amqp://user:password@host:5672//": "amqp://user:password@host:5672//",
    "amqp://one//;amqp://two//": "amqp://one//;amqp://two//",
    "kombu.transport.memory.Transport://": "kombu.transport.memory.Transport://",
}

REFUSED_BROKERS = {
    "localhost:6379": "",
    "nothing": "",
    "amq://localhost": " (No such transport: amq.  Did you mean amqp?)",
    "http://localhost": " (No such transport: http)",
    "amqp://one//;rabbit://two//": " (No such transport: rabbit.  Did you mean librabbitmq?)",
    "nowhere.Transport://localhost": " (No module named 'nowhere')",
    "kombu.nowhere://localhost": " (module 'kombu' has no attribute 'nowhere')",
}


@pytest.mark.parametrize(("value", "flag"), FLAGS.items())
def test_a_flag_is_read(value: str, flag: bool) -> None:
    environment = Environment({"X": value})
    assert environment.flag("X", default=not flag) is flag
    environment.raise_errors()


@pytest.mark.parametrize("value", REFUSED_FLAGS)
def test_another_word_is_no_flag(value: str) -> None:
    environment = Environment({"X": value})
    environment.flag("X", default=False)
    with pytest.raises(InvalidEnvironmentError) as refusal:
        environment.raise_errors()
    assert str(refusal.value) == f"X={value!r}: expected 1, true, yes or on, or else 0, false, no or off"


@pytest.mark.parametrize(("value", "number"), WHOLE_NUMBERS.items())
def test_a_whole_number_is_read_by_its_field_s_name(value: str, number: int) -> None:
    assert bounds(X_MOST_THINGS=value) == Bounds(most_things=number)


@pytest.mark.parametrize("value", REFUSED_WHOLE_NUMBERS)
def test_a_whole_number_out_of_bounds_is_refused(value: str) -> None:
    with pytest.raises(InvalidEnvironmentError) as refusal:
        bounds(X_MOST_THINGS=value)
    assert str(refusal.value) == f"X_MOST_THINGS={value!r}: expected a whole number from 1 to 9"


@pytest.mark.parametrize(("value", "number"), NUMBERS.items())
def test_a_number_is_read_by_its_field_s_name(value: str, number: float) -> None:
    assert bounds(X_WAIT_SECONDS=value) == Bounds(wait_seconds=number)


@pytest.mark.parametrize("value", REFUSED_NUMBERS)
def test_a_number_out_of_bounds_is_refused(value: str) -> None:
    with pytest.raises(InvalidEnvironmentError) as refusal:
        bounds(X_WAIT_SECONDS=value)
    assert str(refusal.value) == f"X_WAIT_SECONDS={value!r}: expected a number from 0 to 2.5"


@pytest.mark.parametrize("value", ["", "  "])
def test_a_variable_set_to_nothing_counts_as_not_set(value: str) -> None:
    assert bounds(X_MOST_THINGS=value, X_WAIT_SECONDS=value) == Bounds()


@pytest.mark.parametrize("value", [",", " , ,"])
def test_a_list_of_nothing_is_refused(value: str) -> None:
    environment = Environment({"ALLOWED_HOSTS": value})
    assert environment.listed("ALLOWED_HOSTS", default=("localhost",), parse_one=str) == ("localhost",)
    with pytest.raises(InvalidEnvironmentError) as refusal:
        environment.raise_errors()
    assert str(refusal.value) == (
        f"ALLOWED_HOSTS={value.strip()!r}: expected at least one value, or nothing at all for the default"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("postgres://user:secret@host/name", "postgres://user:***@host/name"),
        ("postgres://user:se/cr@et:@host/name", "postgres://user:***@host/name"),
        (
            "redis://:secret@one:6379,redis://two:6379/1,redis://user:se,cret@two",
            "redis://:***@one:6379,redis://two:6379/1,redis://user:***@two",
        ),
        ("redis://host:6379/0", "redis://host:6379/0"),
    ],
)
def test_no_password_is_shown(value: str, shown: str) -> None:
    assert without_password(value) == shown


def test_every_refusal_is_in_one_message() -> None:
    with pytest.raises(InvalidEnvironmentError) as refusal:
        bounds(X_MOST_THINGS="many", X_WAIT_SECONDS="long")
    assert str(refusal.value).splitlines() == [
        "X_MOST_THINGS='many': expected a whole number from 1 to 9",
        "X_WAIT_SECONDS='long': expected a number from 0 to 2.5",
    ]


def test_a_field_of_another_type_is_a_mistake_in_the_code() -> None:
    @dataclass(frozen=True)
    class Wrong:
        name: str = field(default="x", metadata={"minimum": 0, "maximum": 1})

    with pytest.raises(TypeError, match="expected int or float"):
        Environment({}).fields(Wrong, prefix="X_")


@pytest.mark.parametrize(("value", "host"), HOSTS.items())
def test_a_host_is_read(value: str, host: str) -> None:
    assert parse_host(value) == host


@pytest.mark.parametrize("value", REFUSED_HOSTS)
def test_a_host_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(UnexpectedValueError, match=r"^an IP address or a host name"):
        parse_host(value)


@pytest.mark.parametrize(("value", "origin"), ORIGINS.items())
def test_an_origin_is_read_as_browsers_send_it(value: str, origin: str) -> None:
    assert parse_origin(value) == origin


@pytest.mark.parametrize("value", REFUSED_ORIGINS)
def test_an_origin_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(UnexpectedValueError, match=r"^origins separated by commas"):
        parse_origin(value)


@pytest.mark.parametrize("url", REFUSED_DATABASES)
def test_a_database_that_cannot_be_used_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(UnexpectedValueError, match=r"^sqlite:///path/to/file or postgres://"):
        parse_database_url(url, relative_to=tmp_path, test_path=tmp_path / "test.sqlite3")


@pytest.mark.parametrize(("url", "name"), {"sqlite:///a/b.db": "a/b.db", "sqlite:////a/b.db": "/a/b.db"}.items())
def test_a_relative_sqlite_file_is_in_the_project_whatever_the_current_folder(
    url: str, name: str, tmp_path: Path
) -> None:
    database = parse_database_url(url, relative_to=tmp_path, test_path=tmp_path / "test.sqlite3")
    assert database["NAME"] == str(tmp_path / name)
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


def test_a_postgres_is_read_with_its_parts(tmp_path: Path) -> None:
    url = "postgres://user:p%40ss@host:5433/name?sslmode=require&connect_timeout=2&keepalives_idle=60"
    database = parse_database_url(url, relative_to=tmp_path, test_path=tmp_path)
    read = {name: database[name] for name in ("ENGINE", "USER", "PASSWORD", "HOST", "PORT", "NAME", "OPTIONS")}
    assert read == {
        "ENGINE": "django.db.backends.postgresql",
        "USER": "user",
        "PASSWORD": "p@ss",
        "HOST": "host",
        "PORT": 5433,
        "NAME": "name",
        "OPTIONS": {
            "sslmode": "require",
            "connect_timeout": 2,
            "keepalives": 1,
            "keepalives_idle": 60,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        },
    }


def test_a_postgres_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgres://user@127.0.0.1:{silent.getsockname()[1]}/name?connect_timeout=2"
        database = parse_database_url(url, relative_to=tmp_path, test_path=tmp_path)
        wrapper = DatabaseWrapper({**connection.settings_dict, **database})
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            wrapper.connect()


@pytest.mark.parametrize("url", REDISES)
def test_a_redis_is_read(url: str) -> None:
    assert parse_redis_url(url) == url


@pytest.mark.parametrize("url", REFUSED_REDISES)
def test_a_redis_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UnexpectedValueError, match=r"^redis://host:port/number"):
        parse_redis_url(url)


@pytest.mark.parametrize("value", ["orchestration", "tests.jobs", "mahavishnu_site.settings"])
def test_a_package_that_is_there_is_taken(value: str) -> None:
    assert parse_package(value) == value


@pytest.mark.parametrize(("value", "said"), REFUSED_PACKAGES.items())
def test_a_package_that_cannot_be_found_is_refused(value: str, said: str) -> None:
    with pytest.raises(UnexpectedValueError) as refusal:
        parse_package(value)
    assert str(refusal.value) == (
        f"dotted names of Python packages separated by commas, such as shop,warehouse.jobs{said}"
    )


def test_nothing_is_imported_to_see_that_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "explodes" / "without_an_init" / "jobs"
    package.mkdir(parents=True)
    for file in (tmp_path / "explodes" / "__init__.py", package / "__init__.py", package / "adapters.py"):
        file.write_text("raise RuntimeError('imported')")
    assert parse_package("explodes.without_an_init.jobs") == "explodes.without_an_init.jobs"
    assert parse_named_path("crew = explodes.without_an_init.jobs.adapters.Crew") == (
        "crew",
        "explodes.without_an_init.jobs.adapters.Crew",
    )
    with pytest.raises(UnexpectedValueError, match=r"; there is no explodes\.without_an_init\.nowhere$"):
        parse_package("explodes.without_an_init.nowhere")


@pytest.mark.parametrize(("value", "said"), REFUSED_NAMED_PATHS.items())
def test_an_adapter_that_cannot_be_found_is_refused(value: str, said: str) -> None:
    with pytest.raises(UnexpectedValueError) as refusal:
        parse_named_path(value)
    assert str(refusal.value) == (
        f"names and classes separated by commas, such as crew=shop.adapters.CrewAdapter{said}"
    )


@pytest.mark.parametrize(("value", "url"), BROKERS.items())
def test_a_broker_is_read_as_celery_writes_it(value: str, url: str) -> None:
    assert parse_broker_url(value) == url


@pytest.mark.parametrize(("value", "said"), REFUSED_BROKERS.items())
def test_a_broker_that_celery_does_not_know_is_refused(value: str, said: str) -> None:
    with pytest.raises(UnexpectedValueError) as refusal:
        parse_broker_url(value)
    assert str(refusal.value) == f"{BROKER_URL_EXPECTED}{said}"


def check(var_dir: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "check", "--fail-level", "WARNING"],
        cwd=PROJECT_DIR,
        env={**clean_environment(), "MAHAVISHNU_VAR_DIR": str(var_dir), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_bad_environment_is_refused_in_plain_words_and_without_a_password(tmp_path: Path) -> None:
    done = check(
        tmp_path,
        MAHAVISHNU_HOST="999.1.1.1",
        MAHAVISHNU_PORT="abc",
        DATABASE_URL="mysql://user:secret@host/name",
        REDIS_URL="redis://localhost,http://user:secret@host",
        DEBUG="maybe",
        MAHAVISHNU_ALLOWED_ORIGINS="https://example.org,example.org",
        MAHAVISHNU_MAX_CONNECTIONS="0",
        MAHAVISHNU_RELAY_POLL_SECONDS="soon",
        MAHAVISHNU_APPS="tests.jobs,__main__",
        MAHAVISHNU_ADAPTERS="crew=nowhere.Crew",
        CELERY_BROKER_URL="http://user:secret@host",
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "MAHAVISHNU_HOST='999.1.1.1': expected an IP address or a host name, such as 127.0.0.1 or ::1",
        "MAHAVISHNU_PORT='abc': expected a whole number from 0 to 65535",
        "DATABASE_URL='mysql://user:***@host/name': expected sqlite:///path/to/file or "
        "postgres://user:password@host:port/name",
        "REDIS_URL='redis://localhost,http://user:***@host': expected redis://host:port/number, "
        "rediss://host:port/number or unix:///path/to/socket",
        "DEBUG='maybe': expected 1, true, yes or on, or else 0, false, no or off",
        "MAHAVISHNU_ALLOWED_ORIGINS='https://example.org,example.org': expected origins separated by commas, such as "
        "https://example.org,http://example.org:8080",
        "MAHAVISHNU_MAX_CONNECTIONS='0': expected a whole number from 1 to 1000000",
        "MAHAVISHNU_RELAY_POLL_SECONDS='soon': expected a number from 0.02 to 2",
        "MAHAVISHNU_APPS='tests.jobs,__main__': expected dotted names of Python packages separated by commas, "
        "such as shop,warehouse.jobs; there is no __main__",
        "MAHAVISHNU_ADAPTERS='crew=nowhere.Crew': expected names and classes separated by commas, such as "
        "crew=shop.adapters.CrewAdapter; there is no nowhere",
        f"CELERY_BROKER_URL='http://user:***@host': expected {BROKER_URL_EXPECTED} (No such transport: http)",
    ]


def test_a_var_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    done = check(file / "var")
    assert done.returncode == 1
    assert done.stderr == (
        f"MAHAVISHNU_VAR_DIR='{file}/var': expected a folder that this user can make and write to (Not a directory)\n"
    )


def test_nothing_has_to_be_set_but_a_folder(tmp_path: Path) -> None:
    done = check(tmp_path / "new" / "var")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "new" / "var").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("variables", "value", "most"),
    [
        ({"MAHAVISHNU_HEARTBEAT_SECONDS": "20"}, "20", "2"),
        ({"MAHAVISHNU_LEASE_SECONDS": "1.5"}, "1", "0.75"),
        ({"MAHAVISHNU_HEARTBEAT_SECONDS": "3", "MAHAVISHNU_WORKER_TIMEOUT_SECONDS": "5"}, "3", "2.5"),
    ],
)
def test_signs_of_life_rarer_than_they_are_waited_for_are_refused(
    variables: dict[str, str], value: str, most: str, tmp_path: Path
) -> None:
    environment = {**clean_environment(), "MAHAVISHNU_VAR_DIR": str(tmp_path), **variables}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=PROJECT_DIR, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"MAHAVISHNU_HEARTBEAT_SECONDS='{value}': expected at most half of MAHAVISHNU_WORKER_TIMEOUT_SECONDS and of "
        f"MAHAVISHNU_LEASE_SECONDS, which is {most}\n"
    )
