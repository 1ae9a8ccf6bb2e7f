"""`manage.py` itself, before a command runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.harness.programs import PROJECT_DIR
from tests.harness.server import clean_environment

INTERRUPTED = """\
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(60)
"""


def test_ctrl_c_during_startup_exits_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "loading.py").write_text(INTERRUPTED)
    environment = {**clean_environment(), "PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "loading"}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=PROJECT_DIR, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
