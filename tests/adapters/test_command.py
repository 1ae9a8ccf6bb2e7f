"""The adapter `command`, with real programs."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from django.db import connection

from tests.harness.waiting import wait_until

if TYPE_CHECKING:
    from tests.adapters.attempt_runner import Attempt

pytestmark = pytest.mark.django_db

PYTHON = sys.executable

TIMEOUT_SECONDS = 30


def attempt_at(*argv: str, prompt: str = "", **options: Any) -> Attempt:
    from tests.adapters.attempt_runner import attempt_at
    from tests.jobs.commands import one_command

    return attempt_at(one_command, prompt, argv=argv, options=options)


def failure_of(attempt: Attempt) -> Any:
    from orchestration.adapters import StageFailed

    with pytest.raises(StageFailed) as caught:
        attempt.run()
    return caught.value


def expect_cancelled(attempt: Attempt) -> None:
    from orchestration.sdk.context import Cancelled

    with pytest.raises(Cancelled):
        attempt.run()


def test_a_command_returns_its_exit_code_and_what_it_printed() -> None:
    output = attempt_at("sh", "-c", "echo out; printf 'Grüße' >&2").run()
    assert output == {
        "exit_code": 0,
        "stdout": "out\n",
        "stderr": "Grüße",
        "stdout_bytes": 4,
        "stderr_bytes": 7,
        "truncated": False,
    }


def test_what_a_command_printed_is_taken_however_late_its_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration.adapters.command import process

    # As when the worker is held up between the end of the command and a look at what it has printed.
    monkeypatch.setattr(process, "_LAST_WORDS_SECONDS", 0)
    heard: list[tuple[str, bytes]] = []
    with process.Subprocess(["sh", "-c", "echo out; exit 3"], cwd=None, environment={}) as command:
        wait_until(command._has_ended, timeout_seconds=TIMEOUT_SECONDS, what="the end of the command")
        ended = command.wait(
            hear=lambda stream, chunk: heard.append((stream, chunk)),
            should_stop=lambda: None,
            grace_seconds=lambda stop: 0,
        )
    assert (ended, heard) == ((3, None), [("stdout", b"out\n")])


def test_a_command_is_given_what_a_function_would_be_given() -> None:
    attempt = attempt_at("sh", "-c", 'cat; echo "$MAHAVISHNU_PROMPT" >&2', prompt="Write code")
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


def test_a_command_sees_only_the_variables_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED", "yes")
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    attempt = attempt_at(PYTHON, "-c", code, environment=["ALLOWED"], variables={"GIVEN": "too"}, name="env")
    seen = json.loads(attempt.run()["stdout"])
    expected = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    workflow_id = attempt.claim.workflow.pk
    assert {name: seen.get(name) for name in expected} == expected
    # Python itself sets LC_CTYPE where no locale is named.
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


def test_a_prompt_too_long_for_a_variable_comes_on_standard_input_alone() -> None:
    prompt = "long " * 100_000
    code = (
        "import json, os, sys; print(len(json.load(sys.stdin)['inputs']['prompt']), 'MAHAVISHNU_PROMPT' in os.environ)"
    )
    assert attempt_at(PYTHON, "-c", code, prompt=prompt).run()["stdout"] == "500000 False\n"


def test_a_command_that_reads_nothing_is_not_held_up_by_what_it_was_given() -> None:
    assert attempt_at("true", prompt="long " * 100_000).run()["exit_code"] == 0


def test_what_is_printed_is_told_as_it_comes_and_progress_is_told_apart() -> None:
    attempt = attempt_at("sh", "-c", "echo one; echo two; echo '::progress 0.5 half way'; printf 'no end'")
    attempt.run()
    assert "\n".join(attempt.messages) == "one\ntwo\nno end"
    assert attempt.progress == [(0.5, "half way")]


def test_a_line_is_told_while_the_command_still_runs() -> None:
    attempt = attempt_at("sh", "-c", "echo first; read answer < /dev/null; sleep 60")

    def cancel_when_told() -> None:
        wait_until(lambda: attempt.messages == ["first"], timeout_seconds=TIMEOUT_SECONDS, what="the first line")
        attempt.unwanted.set()

    watching = threading.Thread(target=cancel_when_told)
    watching.start()
    expect_cancelled(attempt)
    watching.join()


def test_of_much_output_the_beginning_and_the_end_are_kept() -> None:
    code = "print('beginning'); print('x' * 5_000_000); print('end')"
    output = attempt_at(PYTHON, "-c", code).run()
    size = len("beginning\nend\n") + 5_000_001
    kept = 64 * 1024
    gap = f"\n… {size - kept} bytes left out …\n"
    assert output["stdout"] == f"beginning\n{'x' * (kept // 4 - 10)}{gap}{'x' * (kept * 3 // 4 - 5)}\nend\n"
    assert (output["stdout_bytes"], output["truncated"]) == (size, True)


def test_many_lines_are_few_messages_and_the_last_lines_are_told() -> None:
    attempt = attempt_at(PYTHON, "-c", "for number in range(100_000): print('line', number)")
    attempt.run()
    assert attempt.messages[-1].endswith("line 99998\nline 99999")
    assert len(attempt.messages) < 20
    assert max(len(message) for message in attempt.messages) <= 4000


def test_an_exit_code_that_is_not_expected_fails_the_attempt_in_clean_words() -> None:
    error = failure_of(attempt_at("sh", "-c", "echo working; echo 'no such target' >&2; exit 3"))
    assert str(error) == "sh exited with code 3: no such target"
    assert error.may_retry
    assert error.details == (
        "$ sh -c 'echo working; echo '\"'\"'no such target'\"'\"' >&2; exit 3'\n"
        f"(in {os.getcwd()}; exit code 3)\n\nstandard output:\nworking\n\n\nstandard error:\nno such target\n"
    )


def test_an_exit_code_that_is_expected_is_none_that_fails() -> None:
    assert attempt_at("sh", "-c", "exit 1", ok_exit_codes=[0, 1]).run()["exit_code"] == 1


@pytest.mark.parametrize(
    ("argv", "options", "message"),
    [
        (("no-such-program",), {}, "no-such-program cannot be started: No such file or directory"),
        (("true",), {"cwd": "/no/such/folder"}, "true cannot be started in /no/such/folder: No such file or directory"),
        (("sh", "-c", "kill -9 $$"), {}, "sh was ended by signal 9"),
    ],
)
def test_a_command_that_cannot_start_or_is_killed_says_so(
    argv: tuple[str, ...], options: dict[str, Any], message: str
) -> None:
    assert str(failure_of(attempt_at(*argv, **options))) == message


def test_a_command_runs_in_its_folder(tmp_path: Path) -> None:
    assert attempt_at("pwd", cwd=str(tmp_path)).run()["stdout"] == f"{tmp_path}\n"


def test_a_command_that_takes_too_long_is_asked_to_end_and_what_it_says_then_is_kept() -> None:
    script = "trap 'echo tidied up; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    attempt = attempt_at("sh", "-c", script, timeout_seconds=4)
    error = failure_of(attempt)
    assert str(error) == "sh took longer than 4 s"
    assert "tidied up" in error.details


def test_one_that_does_not_listen_is_killed_after_its_grace() -> None:
    attempt = attempt_at("sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60", timeout_seconds=3, grace_seconds=0.5)
    started = time.monotonic()
    assert str(failure_of(attempt)) == "sh took longer than 3 s"
    assert 3.5 <= time.monotonic() - started < TIMEOUT_SECONDS


# A child in the same group, one in a session of its own, and one whose parent has ended already.
FAMILY = (
    "sleep 600 & echo $! >> {pids}; setsid sleep 600 & echo $! >> {pids}; "
    "(sleep 600 & echo $! >> {pids}); echo $$ >> {pids}; "
)


def family_of(pids: Path) -> list[int]:
    return [int(line) for line in pids.read_text().split()] if pids.exists() else []


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def expect_end_of_family(pids: Path) -> None:
    family = family_of(pids)
    wait_until(lambda: not alive(family), timeout_seconds=TIMEOUT_SECONDS, what=lambda: f"an end of {alive(family)}")


@pytest.mark.parametrize("listens", [True, False])
def test_a_cancelled_command_ends_with_all_that_it_started(tmp_path: Path, listens: bool) -> None:
    pids = tmp_path / "pids"
    trap = "" if listens else "trap '' TERM; "
    attempt = attempt_at("sh", "-c", trap + FAMILY.format(pids=pids) + "wait")

    def cancel() -> None:
        wait_until(lambda: len(family_of(pids)) == 4, timeout_seconds=TIMEOUT_SECONDS, what="the family")
        attempt.unwanted.set()

    cancelling = threading.Thread(target=cancel)
    cancelling.start()
    started = time.monotonic()
    expect_cancelled(attempt)
    cancelling.join()
    assert time.monotonic() - started < TIMEOUT_SECONDS
    wait_until(
        lambda: not alive(family_of(pids)),
        timeout_seconds=TIMEOUT_SECONDS,
        what=lambda: f"an end of {alive(family_of(pids))}",
    )


def test_what_a_command_leaves_behind_ends_with_it_and_does_not_hold_it_up(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    started = time.monotonic()
    output = attempt_at("sh", "-c", f"(sleep 600 & echo $! > {pids}); echo done").run()
    assert output["stdout"] == "done\n"
    assert time.monotonic() - started < TIMEOUT_SECONDS
    expect_end_of_family(pids)


def test_an_error_of_ours_ends_the_command_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = tmp_path / "pids"
    attempt = attempt_at("sh", "-c", FAMILY.format(pids=pids) + "echo told; wait")
    attempt.messages = Unwilling()  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="nobody listens"):
        attempt.run()
    assert len(family_of(pids)) == 4
    wait_until(
        lambda: not alive(family_of(pids)),
        timeout_seconds=TIMEOUT_SECONDS,
        what=lambda: f"an end of {alive(family_of(pids))}",
    )


class Unwilling:
    def append(self, message: str) -> None:
        raise RuntimeError("nobody listens")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {}, "command(): expected a program and its arguments, each a string"),
        (("a", 1), {}, "command('a', 1): expected a program and its arguments, each a string"),
        (("a",), {"timeout_seconds": 0}, "timeout_seconds=0: expected a number of seconds above 0 to 31536000"),
        (("a",), {"grace_seconds": -1}, "grace_seconds=-1: expected a number of seconds from 0 to 31536000"),
        (("a",), {"environment": "PATH"}, "environment='PATH': expected names of environment variables"),
        (("a",), {"variables": {"A": 1}}, "variables={'A': 1}: expected strings"),
    ],
)
def test_a_command_that_cannot_be_run_is_refused_where_it_is_defined(
    arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    from orchestration.adapters.command import command
    from orchestration.sdk import InvalidDefinition

    with pytest.raises(InvalidDefinition) as caught:
        command(*arguments, **options)
    assert str(caught.value) == message


def test_a_stage_that_is_no_command_is_refused_at_the_start() -> None:
    from orchestration.sdk import InvalidDefinition
    from tests.jobs.commands import no_command

    with pytest.raises(InvalidDefinition) as caught:
        no_command.start()
    assert str(caught.value) == "The stage a_function is no command: expected stages made by command(…)"
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM orchestration_workflow")
        assert cursor.fetchone() == (0,)
