"""Both clients fold the same recorded day."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.fold.recorded_day import fold_day, record_day

STEPS = 120

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def test_recorded_day_is_folded_to_its_snapshots(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    record_day(path, steps=STEPS)
    compared: Counter[str] = Counter()
    for channel, snapshot, folded in fold_day(path):
        assert folded == snapshot
        compared[channel.partition(":")[0]] += 1
    assert min(compared[kind] for kind in ("workflow", "pool", "worker", "global", "summary")) > 5
