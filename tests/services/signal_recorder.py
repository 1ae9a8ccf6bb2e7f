"""Record the signals of `orchestration.signals`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

import pytest
from django.dispatch import Signal

from orchestration import signals
from orchestration.models import Pool, Stage, Worker, Workflow

METRICS: Final = ("pool_metrics_changed", "pool")
"""What `names_and_ids` returns for the metrics of the pool "pool"."""


class RecordedSignal(NamedTuple):
    """A signal that was sent: its name, and the id and the status of its row at that time."""

    name: str
    row_id: str
    status: str
    at: datetime


def record_signals(monkeypatch: pytest.MonkeyPatch) -> list[RecordedSignal]:
    """Collect the signals that any thread sends, in order. Other receivers are disconnected until the test ends."""
    recorded: list[RecordedSignal] = []
    for name, signal in vars(signals).items():
        if isinstance(signal, Signal):
            monkeypatch.setattr(signal, "receivers", [])
            signal.connect(_receiver(name, recorded), weak=False)
    return recorded


def _receiver(name: str, recorded: list[RecordedSignal]) -> Any:
    def receive(*, at: datetime, **kwargs: Any) -> None:
        row = next(value for value in kwargs.values() if isinstance(value, Pool | Stage | Worker | Workflow))
        recorded.append(RecordedSignal(name, str(row), row.status, at))

    return receive


def names_and_ids(recorded: list[RecordedSignal]) -> list[tuple[str, str]]:
    """Return the name of each signal and the id of its row."""
    return [(signal.name, signal.row_id) for signal in recorded]
