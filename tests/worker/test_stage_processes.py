"""How soon a worker notices that one of its child processes has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery.concurrency.asynpool import AsynPool

from orchestration.worker.stage_processes import MAX_CHECKS, StageProcesses


class Hub:
    """Calls later what it is asked to call, as often as it is asked."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], Any]] = []

    def call_later(self, _: float, call: Callable[..., Any], *arguments: Any) -> None:
        self.calls.append(lambda: call(*arguments))

    def run(self) -> int:
        """Return the number of calls."""
        done = 0
        while self.calls:
            self.calls.pop(0)()
            done += 1
        return done


@pytest.mark.parametrize(("reaped_at", "expected"), [(0, 0), (1, 1), (3, 3), (MAX_CHECKS + 5, MAX_CHECKS)])
def test_child_is_checked_until_it_can_be_waited_for(
    reaped_at: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    child, hub, checks = object(), Hub(), 0
    processes: Any = object.__new__(StageProcesses)
    processes._pool = [child]

    def maintain() -> None:
        nonlocal checks
        if checks == reaped_at:
            processes._pool.clear()
        checks += 1

    monkeypatch.setattr(AsynPool, "_event_process_exit", lambda *_: maintain())
    processes.maintain_pool = maintain
    processes._event_process_exit(hub, child)
    assert hub.run() == expected
