"""The adapter `command`: each stage is a subprocess.

    @workflow(adapter="command")
    def build(prompt, *, revision):
        return [
            command("git", "checkout", revision, cwd="/srv/checkout"),
            parallel(command("make", "lint", name="lint"), command("make", "test", name="test", timeout_seconds=600)),
        ]

A command is a list of arguments and runs without a shell. It reads one JSON object on standard input: `workflow_id`,
`stage_name`, `attempt`, `idempotency_key`, `inputs` and `results`. A prompt of up to 64 KiB is also in its environment,
as `MAHAVISHNU_PROMPT`. The exit code determines whether the stage failed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from orchestration.adapters.command.output import MAX_STREAM_BYTES, HeadTailBuffer, OutputStreamer
from orchestration.adapters.command.process import Stop, Subprocess
from orchestration.environment import named_variables
from orchestration.limits import engine_limits
from orchestration.plan import check_seconds
from orchestration.sdk import (
    Cancelled,
    Context,
    Definition,
    InvalidDefinition,
    Plan,
    Retry,
    StageDefinition,
    StageFailed,
    StagePlan,
    plan_stages,
)
from orchestration.text import truncate

INHERITED_VARIABLES: Final = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ")
"""The variables that every command inherits from its worker. `environment` names more."""

MAX_PROMPT_VARIABLE_BYTES: Final = 64 * 1024
"""A longer prompt is on standard input only: Linux rejects a variable of 128 KiB."""

GRACE_SECONDS: Final = 5.0
"""How long a command may run after SIGTERM before it is killed."""

BACKSTOP_SECONDS: Final = 5.0
"""How long after the command's time limit and grace period its worker process is killed."""

# JSON writes a control character as six characters, and there are two streams: at most 12 bytes for each byte kept. So
# the output stays below the output limit of a stage.
_RESULT_BYTES_PER_STREAM_BYTE: Final = 16

_MAX_ERROR_CHARACTERS: Final = 300


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
    )


class CommandAdapter:
    """Runs programs."""

    def plan(self, definition: Definition, *, prompt: str, params: Mapping[str, Any]) -> Plan:
        """Return the stages that the workflow's function returned."""
        stages = plan_stages(definition.steps(prompt, params))
        for stage in stages:
            if "argv" not in stage.options:
                raise InvalidDefinition(f"Stage {stage.name} is not a command: expected stages made by command(…)")
        return Plan(
            name=definition.name, adapter=definition.adapter, stages=stages, timeout_seconds=definition.timeout_seconds
        )

    def run(self, stage: StagePlan, ctx: Context, inputs: dict[str, Any]) -> dict[str, Any]:
        """Run the stage's command and return its output."""
        return CommandRun(Command.from_json(stage.options), ctx).run(inputs)


class CommandFailed(StageFailed):
    """A command failed.

    Attributes:
        exit_code: Its exit code, or minus the number of the signal that ended it.
    """

    def __init__(self, message: str, *, exit_code: int, details: str) -> None:
        self.exit_code = exit_code
        super().__init__(message, details=details)


class CommandRun:
    """One attempt to run a command."""

    def __init__(self, command: Command, ctx: Context) -> None:
        limits = engine_limits()
        max_bytes = min(MAX_STREAM_BYTES, limits.max_result_bytes // _RESULT_BYTES_PER_STREAM_BYTE)
        self._command = command
        self._ctx = ctx
        self._streams = {name: HeadTailBuffer(max_bytes=max_bytes) for name in ("stdout", "stderr")}
        self._streamer = OutputStreamer(ctx.log, ctx.progress, max_characters=limits.max_log_message_characters)
        self._cancel_grace_seconds = limits.cancel_grace_seconds / 2

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the output of the stage.

        Raises:
            StageFailed: if the command cannot be started, exceeds its time limit, or has an unexpected exit code.
            Cancelled: if the run has ended.
        """
        started = time.monotonic()
        timeout_seconds = self._command.timeout_seconds

        def should_stop() -> Stop | None:
            self._streamer.send_due()
            if self._ctx.cancelled():
                return Stop.CANCELLED
            is_overdue = timeout_seconds is not None and time.monotonic() - started > timeout_seconds
            return Stop.TIMED_OUT if is_overdue else None

        with self._start(inputs) as process:
            exit_code, stop = process.wait(
                on_output=self._on_output, should_stop=should_stop, grace_seconds=self._grace_seconds
            )
        self._streamer.flush()
        if stop is Stop.CANCELLED:
            raise Cancelled
        if stop is Stop.TIMED_OUT:
            raise self._failed(f"took longer than {timeout_seconds:g} s", exit_code)
        if exit_code not in self._command.ok_exit_codes:
            raise self._failed(_describe_exit(exit_code), exit_code, with_last_line=True)
        return self._outcome(exit_code)

    def _start(self, inputs: Mapping[str, Any]) -> Subprocess:
        command = self._command
        stdin = {
            "workflow_id": self._ctx.workflow_id,
            "stage_name": self._ctx.stage_name,
            "attempt": self._ctx.attempt,
            "idempotency_key": self._ctx.idempotency_key,
            "inputs": inputs,
            "results": dict(self._ctx.results),
        }
        try:
            return Subprocess(
                command.argv,
                cwd=command.cwd,
                environment=self._environment(inputs["prompt"]),
                stdin=json.dumps(stdin, ensure_ascii=False).encode(),
                track_process_group=self._ctx.track_process_group,
            )
        except OSError as error:
            where = f" in {command.cwd}" if command.cwd else ""
            message = f"Cannot start {command.program}{where}: {error.strerror}"
            raise StageFailed(message, details=repr(error)) from error

    def _environment(self, prompt: str) -> dict[str, str]:
        allowed = (*INHERITED_VARIABLES, *self._command.environment)
        inherited = named_variables(allowed)
        own = {
            "MAHAVISHNU_WORKFLOW_ID": self._ctx.workflow_id,
            "MAHAVISHNU_STAGE_NAME": self._ctx.stage_name,
            "MAHAVISHNU_ATTEMPT": str(self._ctx.attempt),
            "MAHAVISHNU_IDEMPOTENCY_KEY": self._ctx.idempotency_key,
        }
        if len(prompt.encode()) <= MAX_PROMPT_VARIABLE_BYTES:
            own["MAHAVISHNU_PROMPT"] = prompt
        return {**inherited, **own, **self._command.variables}

    def _on_output(self, stream: str, chunk: bytes) -> None:
        self._streams[stream].add(chunk)
        self._streamer.on_output(stream, chunk)

    def _grace_seconds(self, stop: Stop) -> float:
        # The supervisor kills this process `cancel_grace_seconds` after the run has ended: end the command first.
        return min(self._command.grace_seconds, self._cancel_grace_seconds if stop is Stop.CANCELLED else float("inf"))

    def _outcome(self, exit_code: int) -> dict[str, Any]:
        stdout, stderr = self._streams["stdout"], self._streams["stderr"]
        return {
            "exit_code": exit_code,
            "stdout": stdout.text(),
            "stderr": stderr.text(),
            "stdout_bytes": stdout.size_bytes,
            "stderr_bytes": stderr.size_bytes,
            "truncated": stdout.is_truncated or stderr.is_truncated,
        }

    def _failed(self, what: str, exit_code: int, *, with_last_line: bool = False) -> StageFailed:
        stdout, stderr = self._streams["stdout"], self._streams["stderr"]
        last_line = (stderr.last_line() or stdout.last_line()) if with_last_line else ""
        message = f"{self._command.program} {what}{f': {last_line}' if last_line else ''}"
        details = (
            f"$ {shlex.join(self._command.argv)}\n(in {self._command.cwd or os.getcwd()}; exit code {exit_code})\n\n"
            f"standard output:\n{stdout.text()}\n\nstandard error:\n{stderr.text()}"
        )
        return CommandFailed(truncate(message, _MAX_ERROR_CHARACTERS), exit_code=exit_code, details=details)


def _is_variable_name(name: object) -> bool:
    return isinstance(name, str) and bool(name) and "=" not in name and "\x00" not in name


def _describe_exit(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exited with code {exit_code}"
    return f"was killed by signal {-exit_code}"
