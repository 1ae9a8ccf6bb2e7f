"""Record every signal for the test, and disconnect all other receivers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.services.signal_recorder import RecordedSignal

pytest.register_assert_rewrite("tests.models.counter_audit")


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[RecordedSignal]:
    """Return the list of sent signals; a test calls `recorded.clear()` after its preparation."""
    # Imported here, because importing models requires that Django is set up.
    from tests.services.signal_recorder import record_signals

    return record_signals(monkeypatch)


@pytest.fixture
def pool_id(unique: Callable[[str], str]) -> str:
    """Create a pool without workers, whose queue in the broker no other test uses, and return its id."""
    from orchestration import services

    return services.create_pool(pool_id=unique("pool")).pk


@pytest.fixture
def empty_tree_queues(valkey: object) -> None:
    """Remove the messages that other tests have left in the pools of parents and sub-runs."""
    from tests.services.sub_run_trees import empty_queues

    empty_queues()
