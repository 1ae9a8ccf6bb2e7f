"""The definition of a command: `command` makes it, and it is stored with its stage."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from orchestration.adapters.command.process import can_execute, is_directory
from orchestration.environment import named_variables
from orchestration.plan import check_seconds
from orchestration.sdk import InvalidDefinition, Retry, StageDefinition

ADAPTER: Final = "command"

INHERITED_VARIABLES: Final = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ")
"""The variables that every command inherits from its worker. `environment` names more."""

GRACE_SECONDS: Final = 5.0
"""How long a command may run after SIGTERM before it is killed."""

BACKSTOP_SECONDS: Final = 5.0
"""How long after the command's time limit and grace period its worker process is killed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A command as it is stored with its stage; `command` describes the fields."""

    argv: Sequence[str]
    cwd: str | None
    environment: Sequence[str]
    variables: Mapping[str, str]
    timeout_seconds: float | None
    grace_seconds: float
    ok_exit_codes: Sequence[int]

    def __post_init__(self) -> None:
        if not self.argv or not all(isinstance(part, str) and "\x00" not in part for part in self.argv):
            raise InvalidDefinition(f"command{tuple(self.argv)!r}: expected a program and its arguments, each a string")
        if isinstance(self.environment, str) or not all(map(_is_variable_name, self.environment)):
            raise InvalidDefinition(f"environment={self.environment!r}: expected names of environment variables")
        if not all(map(_is_variable_name, self.variables)):
            raise InvalidDefinition(f"variables={self.variables!r}: expected names of environment variables as keys")
        if not all(isinstance(value, str) and "\x00" not in value for value in self.variables.values()):
            raise InvalidDefinition(f"variables={self.variables!r}: expected strings as values")
        if self.timeout_seconds is not None:
            check_seconds("timeout_seconds", self.timeout_seconds)
        check_seconds("grace_seconds", self.grace_seconds, may_be_zero=True)

    @property
    def program(self) -> str:
        """The name of the program, without its path."""
        return Path(self.argv[0]).name

    @property
    def inherited_variables(self) -> dict[str, str]:
        """The variables of this process that the command inherits."""
        return named_variables((*INHERITED_VARIABLES, *self.environment))

    def find_missing(self) -> str:
        """Return its program or its working directory if this machine lacks it; empty if it has both."""
        if self.cwd is not None and not is_directory(self.cwd):
            return f"directory {self.cwd}"
        environment = {**self.inherited_variables, **self.variables}
        return "" if can_execute(self.argv[0], cwd=self.cwd, environment=environment) else f"program {self.argv[0]}"

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read a stored command; fields of another release are ignored."""
        return cls(**{key: value for key, value in stored.items() if key in cls.__dataclass_fields__})


def command(
    *argv: str,
    name: str | None = None,
    cwd: str | os.PathLike[str] | None = None,
    environment: Iterable[str] = (),
    variables: Mapping[str, str] | None = None,
    timeout_seconds: float | None = None,
    grace_seconds: float = GRACE_SECONDS,
    ok_exit_codes: Iterable[int] = (0,),
    retries: Retry | None = None,
) -> StageDefinition:
    """Make a stage from a program and its arguments. To use a shell, run one: `command("sh", "-c", "make | tail")`.

    Args:
        argv: The program and its arguments.
        name: The stage's name; by default the program's.
        cwd: Its working directory on the worker's machine; by default the worker's.
        environment: Names of variables that it inherits from its worker, besides `INHERITED_VARIABLES`.
        variables: Variables that are set for it. They are stored with the run, so they must not hold secrets.
        timeout_seconds: Its time limit. After that it is sent SIGTERM and the attempt fails.
        grace_seconds: How long it may run after SIGTERM before it is killed with all that it started.
        ok_exit_codes: Any other exit code fails the attempt.
        retries: Whether and when a failed attempt is retried; by default it is not.

    Raises:
        InvalidDefinition: if a value is out of range or has the wrong type.
    """
    stored = Command(
        argv=argv,
        cwd=None if cwd is None else os.fspath(cwd),
        environment=environment if isinstance(environment, str) else tuple(environment),
        variables=dict(variables or {}),
        timeout_seconds=timeout_seconds,
        grace_seconds=grace_seconds,
        ok_exit_codes=tuple(ok_exit_codes),
    )
    backstop = None if timeout_seconds is None else timeout_seconds + grace_seconds + BACKSTOP_SECONDS
    return StageDefinition(
        name=name or stored.program,
        call=argv[0],
        retries=retries or Retry(),
        timeout_seconds=backstop,
        options=dataclasses.asdict(stored),
        adapter=ADAPTER,
    )


def _is_variable_name(name: object) -> bool:
    return isinstance(name, str) and bool(name) and "=" not in name and "\x00" not in name
