"""Listening to what orchestration announces."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import pytest
from django.dispatch import Signal

from orchestration import signals
from orchestration.models import Pool, Stage, Worker, Workflow


class RecordedSignal(NamedTuple):
    """A signal that was sent: its name, and the id and the status of what it was about at that moment."""

    name: str
    about: str
    status: str
    at: datetime


def record_signals(monkeypatch: pytest.MonkeyPatch) -> list[RecordedSignal]:
    """Collect all that is announced, in order, by any thread; whoever else listens does not hear it for the while."""
    recorded: list[RecordedSignal] = []
    for name, signal in vars(signals).items():
        if isinstance(signal, Signal):
            monkeypatch.setattr(signal, "receivers", [])
            signal.connect(_receiver(name, recorded), weak=False)
    return recorded


def _receiver(name: str, recorded: list[RecordedSignal]) -> Any:
    def receive(*, at: datetime, pool_id: str = "", **kwargs: Any) -> None:
        about = next((value for value in kwargs.values() if isinstance(value, Pool | Stage | Worker | Workflow)), None)
        recorded.append(RecordedSignal(name, str(about or pool_id), about.status if about else "", at))

    return receive
