"""Events that the JavaScript client folds in a second of processor time in Node.js, with 1,000 runs of eight stages.

The fold alone, with the decoding of the messages, and in a client that follows all runs, without a network.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.report import Report
from tests.harness.browser import NODE
from tests.harness.programs import PROJECT_DIR

MODULE = PROJECT_DIR / "clients" / "javascript" / "mahavishnu.js"
PROGRAM = Path(__file__).with_name("fold_events.mjs")
RUNS = 1_000


def run(report: Report, *, rounds: int) -> None:
    """Add one row for each part of the work."""
    command = [NODE, "--expose-gc", str(PROGRAM), str(MODULE), str(RUNS), str(rounds)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600, check=True).stdout
    figures = json.loads(output)
    shown = {"runs": RUNS, "events": figures["events"]}
    report.add(part="fold", **shown, events_per_second=figures["fold"])
    report.add(part="decode and fold", **shown, events_per_second=figures["decode_and_fold"])
    bytes_per_run = figures["bytes_per_run"]
    report.add(part="client", **shown, events_per_second=figures["client"], bytes_per_run=bytes_per_run)
