"""The adapter `command`: each stage is a subprocess.

    @workflow(adapter="command")
    def build(prompt, *, revision):
        return [
            command("git", "checkout", revision, cwd="/srv/checkout"),
            parallel(command("make", "lint", name="lint"), command("make", "test", name="test", timeout_seconds=600)),
        ]

A command is a list of arguments and runs without a shell. It reads one JSON object on standard input: `workflow_id`,
`stage_name`, `attempt`, `idempotency_key`, `inputs` and `results`; what `given(…)` and `each(…)` pass is in `arguments`
and `named_arguments`. A prompt of up to 64 KiB is also in its environment, as `MAHAVISHNU_PROMPT`. The exit code
determines whether the stage failed.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from orchestration.adapters.command.definition import ADAPTER, Command
from orchestration.adapters.command.output import MAX_STREAM_BYTES, HeadTailBuffer, OutputStreamer
from orchestration.adapters.command.process import Stop, Subprocess
from orchestration.adapters.python import check_inputs
from orchestration.limits import engine_limits
from orchestration.plan import Arguments
from orchestration.sdk import (
    Cancelled,
    Context,
    Definition,
    InvalidDefinition,
    MissingRequirement,
    Plan,
    StageFailed,
    StagePlan,
    plan_stages,
)
from orchestration.secret_mask import masked
from orchestration.text import truncate

PYTHON: Final = "python"
"""The adapter of functions that stand among commands."""

MAX_PROMPT_VARIABLE_BYTES: Final = 64 * 1024
"""A longer prompt is on standard input only: Linux rejects a variable of 128 KiB."""

# JSON writes a control character as six characters, and there are two streams: at most 12 bytes for each byte kept. So
# the output stays below the output limit of a stage.
_RESULT_BYTES_PER_STREAM_BYTE: Final = 16

_MAX_ERROR_CHARACTERS: Final = 300

_MAX_FOUND: Final = 1000
"""How many programs with their directories are remembered as found."""

_Search = tuple[str, str | None, str | None]
"""What the search for a program depends on: its name, its working directory, and the `PATH` that its command sets."""

_NOT_HERE: Final = (FileNotFoundError, NotADirectoryError, PermissionError)
"""Why a program cannot be started on this worker. The interpreter that a script names may be missing, too."""


class CommandAdapter:
    """Runs programs."""

    def plan(self, definition: Definition, *, prompt: str, params: Mapping[str, Any]) -> Plan:
        """Return the stages that the workflow's function returned. Functions may be among them."""
        stages = tuple(_with_adapter(stage) for stage in plan_stages(definition.steps(prompt, params)))
        functions = [stage for stage in stages if stage.adapter == PYTHON]
        check_inputs(definition, functions, {**params, "prompt": prompt})
        return Plan(
            name=definition.name, adapter=definition.adapter, stages=stages, timeout_seconds=definition.timeout_seconds
        )

    def __init__(self) -> None:
        self._found: set[_Search] = set()

    def find_missing(self, stage: StagePlan, *, may_block: bool) -> str | None:
        """Return the program or the working directory that this worker lacks; empty if it lacks none."""
        command = Command.from_json(stage.options)
        missing: str | None
        if not may_block:
            # A network drive may not answer.
            missing = "" if _search_of(command) in self._found else None
        elif missing := command.find_missing():
            self._found.discard(_search_of(command))
        else:
            if len(self._found) >= _MAX_FOUND:
                self._found.clear()
            self._found.add(_search_of(command))
        return missing

    def run(self, stage: StagePlan, ctx: Context, inputs: dict[str, Any]) -> Any:
        """Run the stage's command and return its output."""
        command = Command.from_json(stage.options)
        try:
            return CommandRun(command, ctx, stage.arguments).run(inputs)
        except MissingRequirement:
            # It may have been found before, and removed since: the next check looks for it again.
            self._found.discard(_search_of(command))
            raise


def _with_adapter(stage: StagePlan) -> StagePlan:
    """Return the plan of a stage with its adapter, which is empty for a command."""
    if "argv" in stage.options and stage.adapter in ("", ADAPTER):
        return replace(stage, adapter="")
    if stage.options and not stage.adapter:
        raise InvalidDefinition(
            f"Stage {stage.name} is not a command: expected stages made by command(…), or functions by @stage"
        )
    return replace(stage, adapter=stage.adapter or PYTHON)


def _search_of(command: Command) -> _Search:
    return command.argv[0], command.cwd, command.variables.get("PATH")


class CommandFailed(StageFailed):
    """A command failed.

    Attributes:
        exit_code: Its exit code, or minus the number of the signal that ended it.
    """

    def __init__(self, message: str, *, exit_code: int, details: str) -> None:
        self.exit_code = exit_code
        super().__init__(message, details=details)


class CommandRun:
    """One attempt to run a command. The value of an item is the first of its arguments."""

    def __init__(self, command: Command, ctx: Context, arguments: Arguments) -> None:
        limits = engine_limits()
        max_bytes = min(MAX_STREAM_BYTES, limits.max_result_bytes // _RESULT_BYTES_PER_STREAM_BYTE)
        self._command = command
        self._arguments = arguments
        self._ctx = ctx
        self._streams = {name: HeadTailBuffer(max_bytes=max_bytes) for name in ("stdout", "stderr")}
        self._streamer = OutputStreamer(ctx.log, ctx.progress, max_characters=limits.max_log_message_characters)
        self._cancel_grace_seconds = limits.cancel_grace_seconds / 2

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the output of the stage.

        Raises:
            MissingRequirement: if the program or its working directory does not exist here.
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
        if self._arguments.positional:
            stdin["arguments"] = list(self._arguments.positional)
        if self._arguments.named:
            stdin["named_arguments"] = dict(self._arguments.named)
        try:
            return Subprocess(
                command.argv,
                cwd=command.cwd,
                environment=self._environment(inputs["prompt"]),
                stdin=json.dumps(stdin, ensure_ascii=False, default=list).encode(),
                track_process_group=self._ctx.track_process_group,
            )
        except _NOT_HERE as error:
            needs = command.find_missing() or f"program {command.argv[0]}"
            raise MissingRequirement(needs, error.strerror or "") from error
        except OSError as error:
            where = f" in {command.cwd}" if command.cwd else ""
            message = f"Cannot start {command.program}{where}: {error.strerror}"
            raise StageFailed(message, details=repr(error)) from error

    def _environment(self, prompt: str) -> dict[str, str]:
        own = {
            "MAHAVISHNU_WORKFLOW_ID": self._ctx.workflow_id,
            "MAHAVISHNU_STAGE_NAME": self._ctx.stage_name,
            "MAHAVISHNU_ATTEMPT": str(self._ctx.attempt),
            "MAHAVISHNU_IDEMPOTENCY_KEY": self._ctx.idempotency_key,
        }
        if len(prompt.encode()) <= MAX_PROMPT_VARIABLE_BYTES:
            own["MAHAVISHNU_PROMPT"] = prompt
        return {**self._command.inherited_variables, **own, **self._command.variables}

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
        return CommandFailed(truncate(masked(message), _MAX_ERROR_CHARACTERS), exit_code=exit_code, details=details)


def _describe_exit(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exited with code {exit_code}"
    return f"was killed by signal {-exit_code}"
