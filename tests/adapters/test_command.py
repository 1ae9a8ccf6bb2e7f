"""The adapter `command`, with real programs: their input, their environment, their exit code, and invalid commands."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from orchestration.plan import InvalidDefinition
from tests.adapters.command_runner import TIMEOUT_SECONDS, claim_command, expect_failure
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.django_db

PYTHON = sys.executable


def test_command_returns_its_exit_code_and_output() -> None:
    output = claim_command("sh", "-c", "echo out; printf 'Grüße' >&2").run()
    assert output == {
        "exit_code": 0,
        "stdout": "out\n",
        "stderr": "Grüße",
        "stdout_bytes": 4,
        "stderr_bytes": 7,
        "truncated": False,
    }


def test_command_output_is_complete_when_its_end_is_noticed_late(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration.adapters.command import process

    # As when the worker is held up between the end of the command and the next read of its pipes.
    monkeypatch.setattr(process, "_DRAIN_SECONDS", 0)
    received: list[tuple[str, bytes]] = []
    with process.Subprocess(["sh", "-c", "echo out; exit 3"], cwd=None, environment={}) as command:
        wait_until(command._has_ended, timeout_seconds=TIMEOUT_SECONDS, what="the end of the command")
        ended = command.wait(
            on_output=lambda stream, chunk: received.append((stream, chunk)),
            should_stop=lambda: None,
            grace_seconds=lambda stop: 0,
        )
    assert (ended, received) == ((3, None), [("stdout", b"out\n")])


def test_command_reads_the_same_inputs_as_a_function() -> None:
    attempt = claim_command("sh", "-c", 'cat; echo "$MAHAVISHNU_PROMPT" >&2', prompt="Write code")
    output = attempt.run()
    workflow_id = attempt.claim.workflow.pk
    assert json.loads(output["stdout"]) == {
        "workflow_id": workflow_id,
        "stage_name": "sh",
        "attempt": 1,
        "idempotency_key": f"{workflow_id}/sh",
        "inputs": {"argv": ["sh", "-c", 'cat; echo "$MAHAVISHNU_PROMPT" >&2'], "options": {}, "prompt": "Write code"},
        "results": {},
    }
    assert output["stderr"] == "Write code\n"


def test_command_inherits_only_the_allowed_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED", "yes")
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    attempt = claim_command(PYTHON, "-c", code, environment=["ALLOWED"], variables={"GIVEN": "too"}, name="env")
    seen = json.loads(attempt.run()["stdout"])
    expected = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    workflow_id = attempt.claim.workflow.pk
    assert {name: seen.get(name) for name in expected} == expected
    # Python sets LC_CTYPE itself where no locale is named.
    others = {name: value for name, value in seen.items() if not name.startswith("LC_") and name not in expected}
    assert {name: value for name, value in others.items() if name not in ("USER", "LOGNAME", "TMPDIR", "TZ")} == {
        "ALLOWED": "yes",
        "GIVEN": "too",
        "MAHAVISHNU_ATTEMPT": "1",
        "MAHAVISHNU_IDEMPOTENCY_KEY": f"{workflow_id}/env",
        "MAHAVISHNU_PROMPT": "",
        "MAHAVISHNU_STAGE_NAME": "env",
        "MAHAVISHNU_WORKFLOW_ID": workflow_id,
    }


SHELL_SYNTAX = [
    "$(touch injected)",
    "`touch injected`",
    "; touch injected",
    "| touch injected",
    "&& touch injected",
    "> injected",
]


@pytest.mark.parametrize("text", [*SHELL_SYNTAX, "--help", "a\nb", "\u202e"])
def test_command_passes_words_and_prompt_to_no_shell(text: str, tmp_path: Path) -> None:
    code = "import os, sys; print([sys.argv[1:], os.environ['MAHAVISHNU_PROMPT']])"
    output = claim_command(PYTHON, "-c", code, text, text, prompt=text, cwd=str(tmp_path)).run()
    assert output["stdout"] == f"{[[text, text], text]}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
def test_command_rejects_text_that_no_program_can_receive(text: str) -> None:
    from orchestration.services import ServiceError

    with pytest.raises((InvalidDefinition, ServiceError)):
        claim_command("echo", text)
    with pytest.raises(ServiceError):
        claim_command("echo", prompt=text)


def test_command_gets_a_long_prompt_on_standard_input_only() -> None:
    prompt = "long " * 100_000
    code = (
        "import json, os, sys; print(len(json.load(sys.stdin)['inputs']['prompt']), 'MAHAVISHNU_PROMPT' in os.environ)"
    )
    assert claim_command(PYTHON, "-c", code, prompt=prompt).run()["stdout"] == "500000 False\n"


def test_command_that_reads_no_input_is_not_blocked_by_it() -> None:
    assert claim_command("true", prompt="long " * 100_000).run()["exit_code"] == 0


def test_command_runs_in_its_working_directory(tmp_path: Path) -> None:
    assert claim_command("pwd", cwd=str(tmp_path)).run()["stdout"] == f"{tmp_path}\n"


def test_unexpected_exit_code_fails_the_attempt_with_the_last_line_of_stderr() -> None:
    error = expect_failure(claim_command("sh", "-c", "echo working; echo 'no such target' >&2; exit 3"))
    assert str(error) == "sh exited with code 3: no such target"
    assert error.may_retry
    assert error.details == (
        "$ sh -c 'echo working; echo '\"'\"'no such target'\"'\"' >&2; exit 3'\n"
        f"(in {os.getcwd()}; exit code 3)\n\nstandard output:\nworking\n\n\nstandard error:\nno such target\n"
    )


def test_allowed_exit_code_does_not_fail_the_attempt() -> None:
    assert claim_command("sh", "-c", "exit 1", ok_exit_codes=[0, 1]).run()["exit_code"] == 1


@pytest.mark.parametrize(
    ("argv", "options", "message"),
    [
        (("sh", "-c", "kill -9 $$"), {}, "sh was killed by signal 9"),
        (("true", "x" * 200_000), {}, "Cannot start true: Argument list too long"),
    ],
)
def test_command_that_cannot_start_or_is_killed_fails_with_the_reason(
    argv: tuple[str, ...], options: dict[str, Any], message: str
) -> None:
    assert str(expect_failure(claim_command(*argv, **options))) == message


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """Return a folder with a program, a file that cannot be executed, and a script without its interpreter."""
    for name, text, mode in (
        ("works", "#!/bin/sh\n", 0o755),
        ("data", "#!/bin/sh\n", 0o644),
        ("script", "#!/no/such/interpreter\n", 0o755),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    return tmp_path


@pytest.mark.parametrize(
    ("argv", "options", "missing"),
    [
        (["works"], {"variables": {"PATH": "{tools}"}}, ""),
        (["works"], {"variables": {"PATH": "/no/such:."}, "cwd": "{tools}"}, ""),
        (["./works"], {"cwd": "{tools}"}, ""),
        (["{tools}/works"], {}, ""),
        (["works"], {}, "program works"),
        (["./works"], {}, "program ./works"),
        (["data"], {"variables": {"PATH": "{tools}"}}, "program data"),
        (["{tools}"], {}, "program {tools}"),
        (["true"], {"cwd": "{tools}/none"}, "directory {tools}/none"),
        (["true"], {"cwd": "{tools}/works"}, "directory {tools}/works"),
    ],
)
def test_command_needs_its_program_and_its_directory_on_the_worker(
    tools: Path, argv: list[str], options: dict[str, Any], missing: str
) -> None:
    from orchestration.adapters.command import CommandAdapter
    from orchestration.sdk import MissingRequirement

    argv, options = json.loads(json.dumps([argv, options]).replace("{tools}", str(tools)))
    missing = missing.replace("{tools}", str(tools))
    attempt, adapter = claim_command(*argv, **options), CommandAdapter()
    assert adapter.find_missing(attempt.claim.plan, may_block=False) is None
    assert adapter.find_missing(attempt.claim.plan, may_block=True) == missing
    assert adapter.find_missing(attempt.claim.plan, may_block=False) == (None if missing else "")
    if not missing:
        assert attempt.run()["exit_code"] == 0
        return
    with pytest.raises(MissingRequirement) as caught:
        attempt.run()
    assert caught.value.name == missing


@pytest.mark.django_db(transaction=True)
def test_command_without_its_program_ends_an_inline_run() -> None:
    from orchestration import services
    from orchestration.testing import run_inline
    from tests.jobs.commands import one_command

    with pytest.raises(services.StageNotRunnable, match=r"cannot run the stage: it needs program no-such-program\.$"):
        run_inline(one_command, argv=["no-such-program"], options={})


def test_script_without_its_interpreter_is_missing_on_the_worker(tools: Path) -> None:
    from orchestration.sdk import MissingRequirement

    with pytest.raises(MissingRequirement) as caught:
        claim_command(str(tools / "script")).run()
    assert str(caught.value) == f"program {tools}/script (No such file or directory)"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {}, "command(): expected a program and its arguments, each a string"),
        (("a", 1), {}, "command('a', 1): expected a program and its arguments, each a string"),
        (("a",), {"timeout_seconds": 0}, "timeout_seconds=0: expected a number of seconds above 0, at most 31536000"),
        (("a",), {"grace_seconds": -1}, "grace_seconds=-1: expected a number of seconds from 0 to 31536000"),
        (("a",), {"environment": "PATH"}, "environment='PATH': expected names of environment variables"),
        (("a",), {"environment": ["A=B"]}, "environment=('A=B',): expected names of environment variables"),
        (("a",), {"environment": [1]}, "environment=(1,): expected names of environment variables"),
        (
            ("a",),
            {"variables": {"A=B": ""}},
            "variables={'A=B': ''}: expected names of environment variables as keys",
        ),
        (("a",), {"variables": {"A": 1}}, "variables={'A': 1}: expected strings as values"),
    ],
)
def test_command_definition_rejects_invalid_values(
    arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    from orchestration.adapters.command import command
    from orchestration.sdk import InvalidDefinition

    with pytest.raises(InvalidDefinition) as caught:
        command(*arguments, **options)
    assert str(caught.value) == message


def test_command_workflow_rejects_a_stage_of_another_kind_at_the_start() -> None:
    from orchestration.sdk import InvalidDefinition
    from tests.jobs.commands import no_command

    with pytest.raises(InvalidDefinition) as caught:
        no_command.start()
    assert str(caught.value) == (
        "Stage a_query is not a command: expected stages made by command(…), or functions by @stage"
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM orchestration_workflow")
        assert cursor.fetchone() == (0,)
