"""Environment variables as typed values, with one error for all invalid variables.

For an invalid value, a reader records an `InvalidVariable` and returns the default. The settings file therefore runs to
its end, and `Environment.raise_errors()` names every invalid variable in one message. An empty variable counts as not
set.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from django.core.exceptions import ImproperlyConfigured

from orchestration.bounds import OutOfBounds, number_within, whole_number_within
from orchestration.identifiers import is_identifier
from orchestration.suggestions import similar_names

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Fields = TypeVar("Fields", bound=DataclassInstance)

Value = TypeVar("Value")

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off"})

# RFC 1123, section 2.1: labels of letters, digits and hyphens, 253 characters in all.
HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?\Z")

# Also matches a password with an unquoted `/` or `@`, and one in each of several URLs with commas between them.
PASSWORD_IN_URL = re.compile(r"(://[^/@:,]*):(?:(?!://).)*@")
PASSWORD_IN_QUERY = re.compile(r"([?&](?:ssl)?password=)[^&,]*")

# A URL of which scheme and host are certain: what follows the host contains no `@`, which may end a password.
PLACE_IN_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^/?#@]*@)?(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
    r"(?P<rest>[:/?#][^@]*)?\Z"
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InvalidVariable:
    """One variable with an invalid value, and a description of valid values that completes "expected …".

    Attributes:
        value: What the error shows of the value, without passwords.
    """

    name: str
    value: str
    expected: str

    def __str__(self) -> str:
        return f"{self.name}={self.value!r}: expected {self.expected}"


class InvalidEnvironmentError(ImproperlyConfigured):
    """Raised once, with every invalid variable."""

    def __init__(self, errors: tuple[InvalidVariable, ...]) -> None:
        self.errors = errors
        super().__init__("\n".join(map(str, errors)))


class UnexpectedValueError(ValueError):
    """Raised by a parser. The message completes "expected …"."""


class Environment:
    """Reads typed values from `variables` and collects the errors.

    Args:
        variables: All variables of the process.
        secrets: Variables whose value may be in a file instead, which the variable with the suffix `_FILE` names. Other
            processes of the same user can read the variables of a process, and crash reports contain them. Errors show
            only the schemes and hosts of their values.
    """

    def __init__(self, variables: Mapping[str, str], *, secrets: Iterable[str] = ()) -> None:
        self._variables = dict(variables)
        self._errors: list[InvalidVariable] = []
        self._read: set[str] = set()
        self._secrets = tuple(secrets)
        for name in self._secrets:
            self._read_file(name)

    def _read_file(self, name: str) -> None:
        file_variable = f"{name}_FILE"
        if not self.is_set(file_variable):
            return
        path = self._variables[file_variable].strip()
        if self.is_set(name):
            self.add_error(file_variable, value=path, expected=f"no value while {name} is set too")
            return
        try:
            value = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            self.add_error(file_variable, value=path, expected=f"a file that contains the value of {name} ({reason})")
            return
        if not value:
            self.add_error(file_variable, value=path, expected=f"a file that contains the value of {name} (empty)")
        self._variables[name] = value

    def is_set(self, name: str) -> bool:
        self._read.add(name)
        return bool(self._variables.get(name, "").strip())

    def read(self, name: str, *, default: Value, parse: Callable[[str], Value]) -> Value:
        """Return `parse(value)`, or `default` if the variable is not set or `parse` rejects it."""
        if not self.is_set(name):
            return default
        value = self._variables[name].strip()
        try:
            return parse(value)
        except (UnexpectedValueError, OutOfBounds) as error:
            self.add_error(name, value=value, expected=str(error))
            return default

    def add_error(self, name: str, *, value: str, expected: str) -> None:
        """Record an error that no parser finds, such as a folder that cannot be created."""
        shown = places(value) if name in self._secrets else without_password(value)
        self._errors.append(InvalidVariable(name=name, value=shown, expected=expected))

    def raise_errors(self) -> None:
        """Raise `InvalidEnvironmentError` if any variable is invalid."""
        if self._errors:
            raise InvalidEnvironmentError(tuple(self._errors))

    def unread(self, *, prefix: str) -> dict[str, str | None]:
        """Return each set variable that was not read, and the name it may be a misspelling of.

        These are the variables with this prefix, and those whose prefix is misspelled too.
        """
        known = {name.removeprefix(prefix): name for name in self._read if name.startswith(prefix)}
        unread: dict[str, str | None] = {}
        for name in sorted(self._variables.keys() - self._read):
            start, _, rest = name.partition("_")
            is_misspelled = start != prefix.rstrip("_") and bool(similar_names(f"{start}_", [prefix]))
            similar = similar_names(rest if is_misspelled else name.removeprefix(prefix), known)
            if name.startswith(prefix) or (is_misspelled and similar):
                unread[name] = known[similar[0]] if similar else None
        return unread

    def secret(self, name: str, *, weakness: Callable[[str], str | None]) -> str:
        """Return the value, or "" if the variable is not set. An error does not show the value.

        Args:
            name: The variable. Its value may be in a file, as with those of `secrets`.
            weakness: Returns why a secret can be guessed, or None.
        """
        self._read_file(name)
        value = self._variables[name].strip() if self.is_set(name) else ""
        reason = weakness(value) if value else None
        if reason is not None:
            self.add_error(name, value="***", expected=f"a long, random text ({reason})")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        return self.read(name, default=default, parse=parse_flag)

    def path(self, name: str, *, default: Path, relative_to: Path) -> Path:
        """Return an absolute path; a relative one starts at `relative_to`, not at the current folder."""
        return self.read(name, default=default, parse=lambda value: relative_to / parse_path(value))

    def whole_number(self, name: str, *, default: int, minimum: int, maximum: int) -> int:
        return self.read(name, default=default, parse=partial(whole_number_within, minimum=minimum, maximum=maximum))

    def number(self, name: str, *, default: float, minimum: float, maximum: float) -> float:
        return self.read(name, default=default, parse=partial(number_within, minimum=minimum, maximum=maximum))

    def host(self, name: str, *, default: str) -> str:
        return self.read(name, default=default, parse=parse_host)

    def choice(self, name: str, *, default: str, choices: tuple[str, ...]) -> str:
        """Return one of these words; case is ignored."""

        def parse(value: str) -> str:
            if value.lower() not in choices:
                raise UnexpectedValueError(f"one of {', '.join(choices)}")
            return value.lower()

        return self.read(name, default=default, parse=parse)

    def identifier(self, name: str, *, default: str, max_length: int) -> str:
        """Return an id of at most `max_length` characters."""

        def parse(value: str) -> str:
            if len(value) > max_length or not is_identifier(value):
                raise UnexpectedValueError(f"1 to {max_length} of the characters A-Z a-z 0-9 . _ -")
            return value

        return self.read(name, default=default, parse=parse)

    def listed(self, name: str, *, default: tuple[Value, ...], parse_one: Callable[[str], Value]) -> tuple[Value, ...]:
        """Return the parts of a comma-separated value, each parsed by `parse_one`; at least one is required."""

        def parse(value: str) -> tuple[Value, ...]:
            parts = [part.strip() for part in value.split(",") if part.strip()]
            if not parts:
                raise UnexpectedValueError("at least one value, or an empty variable for the default")
            return tuple(parse_one(part) for part in parts)

        return self.read(name, default=default, parse=parse)

    def fields(self, kind: type[Fields], *, prefix: str) -> Fields:
        """Build the dataclass `kind` from one variable for each of its fields.

        The field `max_connections` is read from `<prefix>MAX_CONNECTIONS`. A field is an `int` or a `float`. It has a
        default. Its metadata contains `minimum` and `maximum`, which are both allowed values.

        Raises:
            TypeError: if a field has another type; this is a bug, not a user's error.
        """
        types = get_type_hints(kind)
        values: dict[str, int | float] = {}
        for field in dataclasses.fields(kind):
            name = prefix + field.name.upper()
            given: dict[str, Any] = {"default": field.default, **field.metadata}
            given.pop("help", None)
            if types[field.name] is int:
                values[field.name] = self.whole_number(name, **given)
            elif types[field.name] is float:
                values[field.name] = self.number(name, **given)
            else:
                raise TypeError(f"{kind.__name__}.{field.name} is {types[field.name]!r}: expected int or float")
        return kind(**values)


def parse_flag(value: str) -> bool:
    """Return the flag that a word such as `yes` or `off` stands for; case is ignored."""
    if value.lower() in TRUE_WORDS:
        return True
    if value.lower() in FALSE_WORDS:
        return False
    raise UnexpectedValueError("1, true, yes or on, or else 0, false, no or off")


def parse_path(value: str) -> Path:
    """Return the path; `~` and `~name` at its beginning stand for the folder of a user."""
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise UnexpectedValueError("a path; the folder of this user is unknown, so `~` cannot be used") from None


def parse_host(value: str) -> str:
    """Return the address or name to listen on, without the optional brackets of an IPv6 address."""
    bare = value.removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    if HOST_NAME.match(value) and not re.fullmatch(r"[0-9.]+", value):
        return value
    raise UnexpectedValueError("an IP address or a host name, such as 127.0.0.1 or ::1")


def without_password(value: str) -> str:
    """Return the value with the password of each URL replaced by `***`."""
    return PASSWORD_IN_QUERY.sub(r"\1***", PASSWORD_IN_URL.sub(r"\1:***@", value))


def places(secret: str) -> str:
    """Return scheme and host of each URL of a secret value, with `***` for the rest. Other values are `***`."""
    return ",".join(_place(url) for url in re.split(r",\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)", secret))


def _place(url: str) -> str:
    match = PLACE_IN_URL.match(url)
    if match is None:
        return "***"
    user, rest = "***@" if match["user"] else "", "/***" if match["rest"] else ""
    return f"{match['scheme']}{user}{match['host']}{rest}"
