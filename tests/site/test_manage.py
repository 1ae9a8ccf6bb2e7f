"""`manage.py` itself, before a command runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.harness.programs import PROJECT_DIR, run_to_end
from tests.harness.server import clean_environment

INTERRUPTED = """\
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(60)
"""


def run_manage(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run_to_end("manage.py", command, environment={**clean_environment(), **variables})


def test_ctrl_c_during_startup_exits_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "loading.py").write_text(INTERRUPTED)
    done = run_manage("check", PYTHONPATH=str(tmp_path), DJANGO_SETTINGS_MODULE="loading")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize(
    ("module", "missing"), [("own_site.settings", "own_site"), ("mahavishnu_site.setings", "mahavishnu_site.setings")]
)
def test_settings_module_that_does_not_exist_is_an_error_in_one_line(command: str, module: str, missing: str) -> None:
    done = run_manage(command, DJANGO_SETTINGS_MODULE=module)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"DJANGO_SETTINGS_MODULE='{module}': expected a module in {PROJECT_DIR} or in a folder that PYTHONPATH names; "
        f"{missing} was not found\n"
    )


def test_missing_import_in_a_settings_module_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "own_settings.py").write_text("import no_such_package\n")
    done = run_manage("check", PYTHONPATH=str(tmp_path), DJANGO_SETTINGS_MODULE="own_settings")
    assert done.returncode == 1
    assert f'File "{tmp_path / "own_settings.py"}", line 1, in <module>' in done.stderr
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'no_such_package'\n")
