"""Listening to what orchestration announces."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import pytest
from django.dispatch import Signal

from orchestration import signals
from orchestration.models import Pool, Stage, Worker, Workflow


class Heard(NamedTuple):
    """A signal that was sent: its name, and the id and the status of what it was about at that moment."""

    name: str
    about: str
    status: str
    at: datetime


def hear_everything(monkeypatch: pytest.MonkeyPatch) -> list[Heard]:
    """Collect all that is announced, in order, by any thread; whoever else listens does not hear it for the while."""
    heard: list[Heard] = []
    for name, signal in vars(signals).items():
        if isinstance(signal, Signal):
            monkeypatch.setattr(signal, "receivers", [])
            signal.connect(_receiver(name, heard), weak=False)
    return heard


def _receiver(name: str, heard: list[Heard]) -> Any:
    def receive(*, at: datetime, pool_id: str = "", **kwargs: Any) -> None:
        about = next((value for value in kwargs.values() if isinstance(value, Pool | Stage | Worker | Workflow)), None)
        heard.append(Heard(name, str(about or pool_id), about.status if about else "", at))

    return receive
