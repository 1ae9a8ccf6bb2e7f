"""Both clients fold the same recorded day."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fold import run_operations, sub_run_operations, wait_operations, worker_operations
from tests.fold.recorded_day import fold_day, record_day
from tests.harness.browser import NODE
from tests.javascript.node_client import MODULE

STEPS = 120
COVERED = {
    *("workflow.map_started", "workflow.map_progress", "workflow.stage_added", "workflow.stream_opened"),
    *("workflow.waiting", "workflow.wait_answered", "workflow.wait_expired"),
}
"""The events of stages that grow, wait and stream, which a short day of everything may not have."""
JAVASCRIPT_FOLD = Path(__file__).parent.parent / "javascript" / "fold_day.mjs"

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def test_recorded_day_is_folded_to_its_snapshots(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    record_day(path, steps=STEPS)
    check_is_enough(fold_in_python(path))
    check_is_enough(fold_in_javascript(path))


def test_recorded_day_of_stages_that_grow_and_wait_is_folded_to_its_snapshots(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    record_day(
        path, steps=0, events=COVERED, of=(run_operations, wait_operations, sub_run_operations, worker_operations)
    )
    assert fold_in_python(path)["workflow"] > 5
    assert fold_in_javascript(path)["workflow"] > 5


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
