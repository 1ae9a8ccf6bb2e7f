"""The examples of `docs/reporting.md` run as printed, and its tables are complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from realtime.api.json_body import MAX_DEPTH
from realtime.api.report_body import MAX_EVENTS
from realtime.api.report_shapes import REPORTABLE
from tests.docs.markdown import blocks, code_spans, page, table
from tests.harness.browser import NODE
from tests.harness.curl import curl
from tests.harness.server import MahavishnuServer

PAGE = page("docs/reporting.md")
PROGRAMS = {
    "sh": ["sh", "-ec"],
    "python": [sys.executable, "-c"],
    "js": [NODE, "--input-type=module", "--eval"],
}


def test_documented_reports_run(server: MahavishnuServer, tmp_path: Path) -> None:
    outputs = []
    environment = {**os.environ, "PATH": f"{Path(curl(tmp_path)).parent}{os.pathsep}{os.environ['PATH']}"}
    for block in blocks(PAGE, role="example"):
        assert block.language == "sh" or len(block.text.splitlines()) <= 10, block.where
        source = block.text.replace("127.0.0.1:8690", f"127.0.0.1:{server.port}")
        done = subprocess.run(
            [*PROGRAMS[block.language], source],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    started, stages, completed = outputs
    assert re.match(r'\{"results":\[\{"seq":\d+,"changed":true,"event":"workflow.started"\}\]', started), started
    assert re.fullmatch(r"\[\d+, \d+\]\n", stages), stages
    assert re.fullmatch(r"200 \d+ [0-9a-f]{32}\n", completed), completed


def test_documented_events_are_those_that_can_be_reported() -> None:
    rows = table(PAGE, first="Name of the event")
    names = [name for row in rows for name in re.findall(r"[\w.]+", row["Name of the event"])]
    assert sorted(names) == sorted(REPORTABLE)


def test_documented_bounds_are_those_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"deeper than {MAX_DEPTH}" in text
    assert f"more than {MAX_EVENTS}" in text
    assert "Idempotency-Key" in code_spans(PAGE)
