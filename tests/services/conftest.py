"""Every signal is recorded for the test, and reaches no other receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.services.signal_recorder import RecordedSignal

pytest.register_assert_rewrite("tests.models.counter_audit")


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[RecordedSignal]:
    """Return every signal that was sent; `recorded.clear()` drops those of the preparation of a test."""
    # Imported here, because models can be only once Django is set up.
    from tests.services.signal_recorder import record_signals

    return record_signals(monkeypatch)
