"""`mahavishnu_site.env`: which values of variables are valid, and the error for the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mahavishnu_site.dotted_names import parse_named_path, parse_package
from mahavishnu_site.env import (
    Environment,
    InvalidEnvironmentError,
    UnexpectedValueError,
    parse_host,
    without_password,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    most_things: int = field(default=5, metadata={"minimum": 1, "maximum": 9, "help": ""})
    wait_seconds: float = field(default=0.5, metadata={"minimum": 0.0, "maximum": 2.5, "help": ""})


def bounds(**variables: str) -> Bounds:
    """Read `Bounds` from these variables."""
    environment = Environment(variables)
    fields = environment.fields(Bounds, prefix="X_")
    environment.raise_errors()
    return fields


FLAGS = {"1": True, "true": True, "Yes": True, "ON": True, "0": False, "FALSE": False, "no": False, "off": False}

INVALID_FLAGS = ["maybe", "2", "-1", "truee", "t"]

WHOLE_NUMBERS = {"1": 1, "9": 9, " 3 ": 3, "007": 7}

INVALID_WHOLE_NUMBERS = ["0", "10", "-3", "abc", "3.0", "1e0", "1_0", "٣", "0x3", "9" * 400]

NUMBERS = {"0": 0.0, "2.5": 2.5, "1": 1.0, "1e-3": 0.001}

INVALID_NUMBERS = ["-0.1", "2.51", "nan", "inf", "half", "1,5"]

HOSTS = {
    "127.0.0.1": "127.0.0.1",
    "0.0.0.0": "0.0.0.0",
    "::1": "::1",
    "[::1]": "::1",
    "0:0:0:0:0:0:0:1": "::1",
    "localhost": "localhost",
    "server-1.example.org": "server-1.example.org",
}

INVALID_HOSTS = ["999.1.1.1", "127.0.0", "http://localhost", "a b", "-a.example", "a..b", "host:80", "::g", "a" * 254]


INVALID_PACKAGES = {
    "": "",
    "a-b": "",
    "shop..jobs": "",
    "nowhere": "; nowhere was not found",
    "tests.nowhere": "; tests.nowhere was not found",
    "tests.site.conftest.nowhere": "; tests.site.conftest.nowhere was not found",
    "nowhere.jobs": "; nowhere.jobs was not found",
    "orchestration": "; orchestration has no module workflows",
    "mahavishnu_site.settings": "; mahavishnu_site.settings has no module workflows",
}
INVALID_NAMED_PATHS = {
    "crew": "",
    "=shop.Crew": "",
    "crew=Crew": "",
    "crew=shop Crew": "",
    "crew=nowhere.Crew": "; nowhere was not found",
    "crew=orchestration.nowhere.Crew": "; orchestration.nowhere was not found",
}


@pytest.mark.parametrize(("value", "flag"), FLAGS.items())
def test_flag_reads_words_and_digits(value: str, flag: bool) -> None:
    environment = Environment({"X": value})
    assert environment.flag("X", default=not flag) is flag
    environment.raise_errors()


@pytest.mark.parametrize("value", INVALID_FLAGS)
def test_flag_rejects_other_words(value: str) -> None:
    environment = Environment({"X": value})
    environment.flag("X", default=False)
    with pytest.raises(InvalidEnvironmentError) as error:
        environment.raise_errors()
    assert str(error.value) == f"X={value!r}: expected 1, true, yes or on, or else 0, false, no or off"


@pytest.mark.parametrize(("value", "number"), WHOLE_NUMBERS.items())
def test_fields_read_a_whole_number(value: str, number: int) -> None:
    assert bounds(X_MOST_THINGS=value) == Bounds(most_things=number)


@pytest.mark.parametrize("value", INVALID_WHOLE_NUMBERS)
def test_fields_reject_an_invalid_whole_number(value: str) -> None:
    with pytest.raises(InvalidEnvironmentError) as error:
        bounds(X_MOST_THINGS=value)
    assert str(error.value) == f"X_MOST_THINGS={value!r}: expected a whole number from 1 to 9"


@pytest.mark.parametrize(("value", "number"), NUMBERS.items())
def test_fields_read_a_number(value: str, number: float) -> None:
    assert bounds(X_WAIT_SECONDS=value) == Bounds(wait_seconds=number)


@pytest.mark.parametrize("value", INVALID_NUMBERS)
def test_fields_reject_an_invalid_number(value: str) -> None:
    with pytest.raises(InvalidEnvironmentError) as error:
        bounds(X_WAIT_SECONDS=value)
    assert str(error.value) == f"X_WAIT_SECONDS={value!r}: expected a number from 0 to 2.5"


@pytest.mark.parametrize("value", ["", "  "])
def test_empty_variable_counts_as_not_set(value: str) -> None:
    assert bounds(X_MOST_THINGS=value, X_WAIT_SECONDS=value) == Bounds()


@pytest.mark.parametrize("value", [",", " , ,"])
def test_listed_rejects_a_list_without_values(value: str) -> None:
    environment = Environment({"ALLOWED_HOSTS": value})
    assert environment.listed("ALLOWED_HOSTS", default=("localhost",), parse_one=str) == ("localhost",)
    with pytest.raises(InvalidEnvironmentError) as error:
        environment.raise_errors()
    assert str(error.value) == (
        f"ALLOWED_HOSTS={value.strip()!r}: expected at least one value, or an empty variable for the default"
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
        ("redis://h/0?password=s3cret&bogus=1", "redis://h/0?password=***&bogus=1"),
        ("redis://h?x=1&sslpassword=s3cret,redis://i", "redis://h?x=1&sslpassword=***,redis://i"),
    ],
)
def test_without_password_hides_each_password(value: str, shown: str) -> None:
    assert without_password(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("PASSWORD", "***"),
        ("mahavishnu:PASSWORD@127.0.0.1/db", "***"),
        ("redis://h/0?password=s3cret&bogus=1", "redis://h/***"),
        ("redis://h/0?password=s3@cret", "***"),
        ("postgres://user:se/cr@et:@host/name", "***"),
        ("postgres://user:12/34@host/name", "***"),
        ("redis://:secret", "***"),
        ("postgres://user:secret@[::1]:5432/name", "postgres://***@[::1]/***"),
        ("redis://one, redis://:secret@two:6379/1", "redis://one,redis://***@two/***"),
        ("redis://user:se,cret@two", "redis://***@two"),
        ("unix:///path/to/socket?password=s3cret", "***"),
    ],
)
def test_errors_show_only_schemes_and_hosts_of_secrets(value: str, shown: str, tmp_path: Path) -> None:
    def reject(_: str) -> str:
        raise UnexpectedValueError("another value")

    (tmp_path / "file").write_text(value)
    variables = {"URL": value, "OTHER_FILE": str(tmp_path / "file")}
    environment = Environment(variables, secrets=("URL", "OTHER"))
    environment.read("URL", default="", parse=reject)
    environment.read("OTHER", default="", parse=reject)
    with pytest.raises(InvalidEnvironmentError) as error:
        environment.raise_errors()
    assert str(error.value).splitlines() == [f"{name}={shown!r}: expected another value" for name in ("URL", "OTHER")]


def test_unread_finds_variables_that_no_reader_asked_for() -> None:
    environment = Environment({"X_PORT": "1", "X_PROT": "2", "X_OTHER": "3", "Y_PORT": "4"})
    environment.whole_number("X_PORT", default=0, minimum=0, maximum=9)
    environment.flag("X_DEBUG", default=False)
    assert environment.unread(prefix="X_") == {"X_OTHER": None, "X_PROT": "X_PORT"}


def test_unread_finds_variables_with_a_misspelled_prefix() -> None:
    environment = Environment({"MAHAVISNU_PORT": "1", "MAHAVISHUN_PROT": "2", "MAHAVISNU_COLOUR": "3", "PORT": "4"})
    environment.whole_number("MAHAVISHNU_PORT", default=0, minimum=0, maximum=9)
    unread = environment.unread(prefix="MAHAVISHNU_")
    assert unread == {"MAHAVISNU_PORT": "MAHAVISHNU_PORT", "MAHAVISHUN_PROT": "MAHAVISHNU_PORT"}


def test_raise_errors_names_every_invalid_variable() -> None:
    with pytest.raises(InvalidEnvironmentError) as error:
        bounds(X_MOST_THINGS="many", X_WAIT_SECONDS="long")
    assert str(error.value).splitlines() == [
        "X_MOST_THINGS='many': expected a whole number from 1 to 9",
        "X_WAIT_SECONDS='long': expected a number from 0 to 2.5",
    ]


def test_fields_reject_a_field_of_another_type() -> None:
    @dataclass(frozen=True)
    class Wrong:
        name: str = field(default="x", metadata={"minimum": 0, "maximum": 1})

    with pytest.raises(TypeError, match="expected int or float"):
        Environment({}).fields(Wrong, prefix="X_")


@pytest.mark.parametrize(("value", "host"), HOSTS.items())
def test_parse_host_accepts_addresses_and_names(value: str, host: str) -> None:
    assert parse_host(value) == host


@pytest.mark.parametrize("value", INVALID_HOSTS)
def test_parse_host_rejects_other_values(value: str) -> None:
    with pytest.raises(UnexpectedValueError, match=r"^an IP address or a host name"):
        parse_host(value)


@pytest.mark.parametrize("value", ["demonstrations", "tests.jobs"])
def test_parse_package_accepts_an_existing_package(value: str) -> None:
    assert parse_package(value) == value


@pytest.mark.parametrize(("value", "reason"), INVALID_PACKAGES.items())
def test_parse_package_rejects_a_missing_package(value: str, reason: str) -> None:
    with pytest.raises(UnexpectedValueError) as error:
        parse_package(value)
    assert str(error.value) == (
        f"dotted names of Python packages separated by commas, such as shop,warehouse.jobs{reason}"
    )


def test_parse_package_and_parse_named_path_import_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "explodes" / "without_an_init" / "jobs"
    package.mkdir(parents=True)
    for file in (
        tmp_path / "explodes" / "__init__.py",
        package / "__init__.py",
        package / "adapters.py",
        package / "workflows.py",
    ):
        file.write_text("raise RuntimeError('imported')")
    assert parse_package("explodes.without_an_init.jobs") == "explodes.without_an_init.jobs"
    assert parse_named_path("crew = explodes.without_an_init.jobs.adapters.Crew") == (
        "crew",
        "explodes.without_an_init.jobs.adapters.Crew",
    )
    with pytest.raises(UnexpectedValueError, match=r"; explodes\.without_an_init\.nowhere was not found$"):
        parse_package("explodes.without_an_init.nowhere")


@pytest.mark.parametrize(("value", "reason"), INVALID_NAMED_PATHS.items())
def test_parse_named_path_rejects_a_missing_module(value: str, reason: str) -> None:
    with pytest.raises(UnexpectedValueError) as error:
        parse_named_path(value)
    assert str(error.value) == (
        f"names and classes separated by commas, such as crew=shop.adapters.CrewAdapter{reason}"
    )


def test_environment_reads_a_secret_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(" Å \n")
    environment = Environment({"KEY_FILE": str(tmp_path / "key")}, secrets=["KEY", "OTHER"])
    read = [environment.read(name, default="none", parse=str) for name in ("KEY", "OTHER")]
    assert read == ["Å", "none"]
    environment.raise_errors()


def test_environment_rejects_a_secret_file_without_a_value(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(b"\xff")
    files = {name: tmp_path / name for name in ("empty", "binary", "missing", "both")}
    variables = {f"{name}_FILE": str(path) for name, path in files.items()} | {"both": "value"}
    with pytest.raises(InvalidEnvironmentError) as error:
        Environment(variables, secrets=files).raise_errors()
    assert str(error.value).splitlines() == [
        f"empty_FILE='{files['empty']}': expected a file that contains the value of empty (empty)",
        f"binary_FILE='{files['binary']}': expected a file that contains the value of binary (not UTF-8)",
        f"missing_FILE='{files['missing']}': expected a file that contains the value of missing "
        "(No such file or directory)",
        f"both_FILE='{files['both']}': expected no value while both is set too",
    ]
