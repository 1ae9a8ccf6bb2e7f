"""Locales without UTF-8, foreign bytes in arguments and paths, and users without a name and a home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mahavishnu_site.var_dir import SHORT_PATHS_DIR, valkey_socket, valkey_url
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import MahavishnuServer

C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""ASCII for arguments, paths and output. Without the last two variables, Python would use UTF-8 (PEP 538, PEP 540)."""

STORED = """
from orchestration.models import Workflow
result = list(Workflow.objects.filter(pool_id=pool).values_list("prompt", "params"))
"""

PRINT_ARGUMENTS = """
import os, sys, django
django.setup()
from orchestration.adapters.command.process import Subprocess
script = 'printf %s "$0 $V $(basename "$PWD")" > out'
variables = {"PATH": os.environ["PATH"], "V": "\\u20ac"}
with Subprocess(["sh", "-c", script, "\\xe9"], cwd=sys.argv[1], environment=variables) as shell:
    shell.wait(on_output=print, should_stop=lambda: None, grace_seconds=lambda stop: 0)
"""

EVENTS = """
from realtime.models import EventRoom
result = [each.event.data for each in EventRoom.objects.filter(room=room).select_related("event")]
"""

UNNAMED_USER_ID = "54321"


def run(*command: str | bytes, environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command,
        cwd=PROJECT_DIR,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )


def manage(server: MahavishnuServer, *arguments: str | bytes) -> subprocess.CompletedProcess[bytes]:
    return run(sys.executable, "manage.py", *arguments, environment={**server.environment, **C_LOCALE})


def test_arguments_are_utf8_and_output_is_escaped_in_a_locale_without_it(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    pool, key = unique("pool"), unique("kéy")
    options = ("--pool", pool, "--key", key, "--prompt", "naïve €", "--param", 'path="ünïcode"')
    started = manage(server, "run_workflow", "source_report", *options)
    assert (started.returncode, started.stderr.count(b"\n")) == (0, 1)
    assert server.services_driver.execute(STORED, pool=pool) == [["naïve €", {"path": "ünïcode", "report": None}]]
    workflow_id = started.stdout.decode().strip()
    server.services.cancel_workflow(workflow_id=workflow_id, reason="naïve €")
    watched = manage(server, "run_workflow", "source_report", *options, "--watch")
    assert watched.returncode == 4
    assert watched.stdout.decode("ascii").splitlines()[-1] == rf"{workflow_id} cancelled: na\xefve \u20ac"


def test_event_data_is_utf8_in_a_locale_without_it(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    id = unique("wf")
    done = manage(server, "emit_test_event", "workflow.started", "--id", id, "--data", '{"prompt": "naïve €"}')
    assert (done.returncode, done.stderr) == (0, b"")
    (data,) = server.services_driver.execute(EVENTS, room=f"workflow:{id}")
    assert "naïve €" in data


def test_argument_that_is_not_utf8_is_refused(server: MahavishnuServer) -> None:
    done = manage(server, "run_workflow", "demo_failure", "--prompt", b"\xff")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"CommandError: Argument b'\\xff' is not text in UTF-8.\n"


def test_command_stage_gets_utf8_in_a_locale_without_it(server: MahavishnuServer, tmp_path: Path) -> None:
    directory = tmp_path / "ö"
    directory.mkdir()
    done = run(sys.executable, "-c", PRINT_ARGUMENTS, str(directory), environment={**server.environment, **C_LOCALE})
    assert (done.returncode, done.stderr) == (0, b"")
    assert (directory / "out").read_text(encoding="utf-8") == "é € ö"


@pytest.mark.parametrize("name", ["é", "\udcff"])
def test_socket_is_elsewhere_when_the_path_is_not_ascii(name: str) -> None:
    socket = valkey_socket(Path("/srv") / name)
    assert socket.parent.parent == SHORT_PATHS_DIR
    assert valkey_url(Path("/srv") / name) == f"unix://{socket}"


def unnamed_user() -> list[str]:
    """Return the beginning of a command that runs as a user without a name, if the system allows it."""
    command = ["unshare", "--user", f"--map-user={UNNAMED_USER_ID}", f"--map-group={UNNAMED_USER_ID}"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        return []
    return command


def check_without_home(var_dir: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": os.environ["PATH"], "MAHAVISHNU_VAR_DIR": str(var_dir), **variables}
    return run(*unnamed_user(), sys.executable, "manage.py", "check", environment=environment)


def test_user_without_a_name_and_a_home_needs_neither(tmp_path: Path) -> None:
    done = check_without_home(tmp_path / "var")
    assert (done.returncode, done.stderr) == (0, b"")


def test_home_that_is_unknown_is_reported(tmp_path: Path) -> None:
    done = check_without_home(tmp_path, MAHAVISHNU_LOG_FILE="~no-such-user/log")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == (
        "MAHAVISHNU_LOG_FILE='~no-such-user/log': expected a path; the folder of this user is unknown, "
        "so `~` cannot be used\n"
    )
