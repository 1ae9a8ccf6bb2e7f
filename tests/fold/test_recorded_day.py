"""Both clients fold the same recorded day."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fold.recorded_day import fold_day, record_day
from tests.harness.browser import NODE
from tests.javascript.node_client import MODULE

STEPS = 120
JAVASCRIPT_FOLD = Path(__file__).parent.parent / "javascript" / "fold_day.mjs"

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def test_recorded_day_is_folded_to_its_snapshots(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    record_day(path, steps=STEPS)
    check_is_enough(fold_in_python(path))
    check_is_enough(fold_in_javascript(path))


def check_is_enough(compared: Mapping[str, int]) -> None:
    assert min(compared[kind] for kind in ("workflow", "pool", "worker", "global", "summary")) > 5


def fold_in_python(path: Path) -> Mapping[str, int]:
    """Fold a day, and return how many snapshots were compared, by type of channel."""
    compared: Counter[str] = Counter()
    for channel, snapshot, folded in fold_day(path):
        assert folded == snapshot
        compared[channel.partition(":")[0]] += 1
    return compared


def fold_in_javascript(path: Path) -> Mapping[str, int]:
    """Do the same with the JavaScript client."""
    command = [NODE, *map(str, (JAVASCRIPT_FOLD, MODULE, path))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    compared: dict[str, int] = json.loads(done.stdout)
    return compared
