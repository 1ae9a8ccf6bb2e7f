"""How the tests start programs (`tests.harness.programs`)."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import django
import pytest

from tests.harness.programs import PRELOADED_MODULES, Program, run_to_end
from tests.harness.server import MahavishnuServer, clean_environment

TIMEOUT_SECONDS = 60


def test_driver_has_the_preloaded_modules_and_no_reactor(server: MahavishnuServer) -> None:
    loaded = set(server.services_driver.execute("import sys\nresult = list(sys.modules)"))
    assert set(PRELOADED_MODULES) <= loaded
    assert loaded.isdisjoint({"twisted.internet.reactor", "daphne.server"})


@pytest.mark.parametrize(("code", "exit_code"), [("pass", 0), ("raise SystemExit(7)", 7), ("1 / 0", 1)])
def test_program_exits_with_its_code(code: str, exit_code: int, tmp_path: Path) -> None:
    assert program(tmp_path, f"print('line'); {code}").wait(timeout=TIMEOUT_SECONDS) == exit_code
    log = (tmp_path / "log").read_text()
    assert log.startswith("line\n")
    assert ("ZeroDivisionError" in log) == (code == "1 / 0")


def test_program_writes_lines_at_once_and_runs_exit_handlers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    killed = program(tmp_path, "print('first'); os.kill(os.getpid(), signal.SIGKILL)")
    assert killed.wait(timeout=TIMEOUT_SECONDS) == -signal.SIGKILL
    assert log.read_text() == "first\n"
    ended = program(tmp_path, "atexit.register(print, 'last')")
    assert ended.wait(timeout=TIMEOUT_SECONDS) == 0
    assert log.read_text() == "first\nlast\n"


def test_run_to_end_returns_each_output_and_passes_the_input() -> None:
    code = "import sys; print(sys.argv, input()); sys.exit('wrong')"
    done = run_to_end("-c", code, "argument", environment=clean_environment(), input="line\n")
    assert (done.returncode, done.stdout, done.stderr) == (1, "['-c', 'argument'] line\n", "wrong\n")
    done = run_to_end("manage.py", "--version", environment=clean_environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{django.__version__}\n", "")


def test_program_with_a_python_path_starts_a_new_interpreter(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nprint('celery' in sys.modules)\n")
    environment = {**clean_environment(), "PYTHONPATH": str(tmp_path)}
    started = Program("-c", "raise SystemExit(7)", environment=environment, log_path=tmp_path / "log")
    assert started.wait(timeout=TIMEOUT_SECONDS) == 7
    assert (tmp_path / "log").read_text() == "False\n"


def test_program_is_signaled_until_it_has_ended(tmp_path: Path) -> None:
    sleeping = program(tmp_path, "time.sleep(600)")
    with pytest.raises(subprocess.TimeoutExpired):
        sleeping.wait(timeout=0.1)
    assert sleeping.poll() is None
    while sleeping.poll() is None:
        sleeping.send_signal(signal.SIGTERM)
    sleeping.kill()
    assert sleeping.wait(timeout=TIMEOUT_SECONDS) == -signal.SIGTERM


def program(directory: Path, code: str) -> Program:
    imports = "import atexit, os, signal, time"
    return Program("-c", f"{imports}; {code}", environment=clean_environment(), log_path=directory / "log")
