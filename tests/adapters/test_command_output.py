"""The output and the end of real programs: log lines, progress, truncation, time limits, cancellation, leftovers."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from tests.adapters.command_runner import (
    FAMILY,
    FAMILY_SIZE,
    TIMEOUT_SECONDS,
    claim_command,
    expect_cancelled,
    expect_failure,
    family_pids,
    wait_for_family,
    wait_for_family_end,
)
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.django_db

PYTHON = sys.executable


def test_output_lines_are_logged_and_progress_lines_are_reported() -> None:
    attempt = claim_command("sh", "-c", "echo one; echo two; echo '::progress 0.5 half way'; printf 'no end'")
    attempt.run()
    assert "\n".join(attempt.messages) == "one\ntwo\nno end"
    assert attempt.progress == [(0.5, "half way")]


def test_output_line_is_logged_while_the_command_runs() -> None:
    attempt = claim_command("sh", "-c", "echo first; read answer < /dev/null; sleep 60")

    def cancel_after_first_line() -> None:
        wait_until(lambda: attempt.messages == ["first"], timeout_seconds=TIMEOUT_SECONDS, what="the first line")
        attempt.cancelled.set()

    cancelling = threading.Thread(target=cancel_after_first_line)
    cancelling.start()
    expect_cancelled(attempt)
    cancelling.join()


def test_long_output_keeps_its_beginning_and_end() -> None:
    code = "print('beginning'); print('x' * 5_000_000); print('end')"
    output = claim_command(PYTHON, "-c", code).run()
    size = len("beginning\nend\n") + 5_000_001
    kept = 64 * 1024
    gap = f"\n… {size - kept} bytes left out …\n"
    assert output["stdout"] == f"beginning\n{'x' * (kept // 4 - 10)}{gap}{'x' * (kept * 3 // 4 - 5)}\nend\n"
    assert (output["stdout_bytes"], output["truncated"]) == (size, True)


def test_many_output_lines_are_batched_and_the_last_lines_are_kept() -> None:
    attempt = claim_command(PYTHON, "-c", "for number in range(100_000): print('line', number)")
    attempt.run()
    assert attempt.messages[-1].endswith("line 99998\nline 99999")
    assert len(attempt.messages) < 20
    assert max(len(message) for message in attempt.messages) <= 4000


def test_overdue_command_is_terminated_and_its_last_output_is_kept() -> None:
    script = "trap 'echo tidied up; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    attempt = claim_command("sh", "-c", script, timeout_seconds=4)
    error = expect_failure(attempt)
    assert str(error) == "sh took longer than 4 s"
    assert "tidied up" in error.details


def test_overdue_command_that_ignores_sigterm_is_killed_after_its_grace_period() -> None:
    attempt = claim_command("sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60", timeout_seconds=3, grace_seconds=0.5)
    started = time.monotonic()
    assert str(expect_failure(attempt)) == "sh took longer than 3 s"
    assert 3.5 <= time.monotonic() - started < TIMEOUT_SECONDS


@pytest.mark.parametrize("handles_sigterm", [True, False])
def test_cancelled_command_ends_with_all_its_descendants(tmp_path: Path, handles_sigterm: bool) -> None:
    pids = tmp_path / "pids"
    trap = "" if handles_sigterm else "trap '' TERM; "
    attempt = claim_command("sh", "-c", trap + FAMILY.format(pids=pids) + "wait")

    def cancel() -> None:
        wait_for_family(pids)
        attempt.cancelled.set()

    cancelling = threading.Thread(target=cancel)
    cancelling.start()
    started = time.monotonic()
    expect_cancelled(attempt)
    cancelling.join()
    assert time.monotonic() - started < TIMEOUT_SECONDS
    wait_for_family_end(pids)


def test_background_process_is_killed_when_the_command_ends(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    started = time.monotonic()
    output = claim_command("sh", "-c", f"(sleep 600 & echo $! > {pids}); echo done").run()
    assert output["stdout"] == "done\n"
    assert time.monotonic() - started < TIMEOUT_SECONDS
    wait_for_family_end(pids)


def test_error_in_the_adapter_kills_the_command(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    attempt = claim_command("sh", "-c", FAMILY.format(pids=pids) + "echo ready; wait")
    attempt.cancelled = FailingEvent(pids)
    with pytest.raises(RuntimeError, match="no shared memory"):
        attempt.run()
    assert len(family_pids(pids)) == FAMILY_SIZE
    wait_for_family_end(pids)


class FailingEvent(threading.Event):
    """An event that raises once the family of the command runs."""

    def __init__(self, pids: Path) -> None:
        super().__init__()
        self._pids = pids

    def is_set(self) -> bool:
        if len(family_pids(self._pids)) == FAMILY_SIZE:
            raise RuntimeError("no shared memory")
        return False
