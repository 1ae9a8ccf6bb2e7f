"""Runs one command as an attempt in the test process, and inspects the process family that it starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from orchestration.processes import is_alive
from tests.harness.waiting import wait_until

if TYPE_CHECKING:
    from tests.adapters.attempt_runner import Attempt

TIMEOUT_SECONDS = 30

FAMILY = (
    "sleep 600 & echo $! >> {pids}; setsid sleep 600 & echo $! >> {pids}; "
    "(sleep 600 & echo $! >> {pids}); echo $$ >> {pids}; "
)
"""A script that starts a child in its group, one in a new session, and one whose parent has ended already."""

FAMILY_SIZE = 4


def claim_command(*argv: str, prompt: str = "", **options: Any) -> Attempt:
    """Start a run of one command and claim it; the options are those of `command`."""
    from tests.adapters.attempt_runner import claim_attempt
    from tests.jobs.commands import one_command

    return claim_attempt(one_command, prompt, argv=argv, options=options)


def expect_failure(attempt: Attempt) -> Any:
    """Run the attempt and return the `StageFailed` that it raises."""
    from orchestration.sdk import StageFailed

    with pytest.raises(StageFailed) as caught:
        attempt.run()
    return caught.value


def expect_cancelled(attempt: Attempt) -> None:
    """Run the attempt, which must be cancelled."""
    from orchestration.sdk import Cancelled

    with pytest.raises(Cancelled):
        attempt.run()


def family_pids(pids: Path) -> list[int]:
    """Return the process ids that the family has written so far."""
    return [int(line) for line in pids.read_text().split()] if pids.exists() else []


def wait_for_family(pids: Path) -> list[psutil.Process]:
    """Return the processes of the family, once all of them have started."""
    wait_until(lambda: len(family_pids(pids)) == FAMILY_SIZE, timeout_seconds=60, what="the whole family")
    return [psutil.Process(pid) for pid in family_pids(pids)]


def wait_for_family_end(pids: Path) -> None:
    """Wait until every process of the family has ended."""
    wait_until(
        lambda: not any(map(is_alive, family_pids(pids))),
        timeout_seconds=TIMEOUT_SECONDS,
        what=lambda: f"the end of {list(filter(is_alive, family_pids(pids)))}",
    )
