"""Restarts of processes one after another: their order, and what ends or delays them."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from mahavishnu_site.dev_certificate import write_certificate
from mahavishnu_site.serve.rolling_restart import RESTART_SIGNAL
from tests.harness.waiting import wait_until
from tests.site.managed_programs import LIMIT_SECONDS, STOPS, Manage
from tests.site.test_replicas import running

QUICK = {"steady_seconds": 0.3, "min_delay_seconds": 0.1, "max_delay_seconds": 0.1}
WEB = {"command": STOPS, "replicas": 2, "restarts_on_signal": True, "restart_policy": QUICK}


def test_processes_restart_one_after_another(manage: Manage) -> None:
    run = manage({"web": WEB, "worker": STOPS})
    run.wait_for("| ready", times=3)
    run.main.send_signal(RESTART_SIGNAL)
    run.wait_for("web.2 started", times=2)
    output = run.output()
    lines = re.findall(r"^(Restarting web\.\d|web\.\d started|web\.\d .*exited with code 0; starting)", output, re.M)
    short = [re.sub(r" \(pid \d+\) exited with code 0; starting", " exited", line) for line in lines[2:]]
    assert short == [
        f"{what} web.{number}" if what == "Restarting" else f"web.{number} {what}"
        for number in (1, 2)
        for what in ("Restarting", "exited", "started")
    ]
    assert output.count("worker started") == 1
    run.main.terminate()
    assert run.wait_ended() == 0


def test_process_that_does_not_start_again_keeps_the_others(manage: Manage) -> None:
    run = manage({"web": WEB | {"command": f"[ -e $FOLDER/broken ] && exit 3; {STOPS}"}})
    run.wait_for("| ready", times=2)
    (run.folder / "broken").touch()
    run.main.send_signal(RESTART_SIGNAL)
    run.wait_for("exited with code 3; restarting it in", times=2)
    assert "Restarting web.2" not in run.output()
    (run.folder / "broken").unlink()
    run.wait_for("web.2 started", times=2)
    run.main.terminate()
    assert run.wait_ended() == 0


def test_process_that_ignores_sigterm_is_killed(manage: Manage) -> None:
    ignores = "[ -e $FOLDER/again ] || trap '' TERM; echo ready; while :; do sleep 0.05; done"
    run = manage({"web": WEB | {"command": ignores, "replicas": 1}}, stop_timeout_seconds=1)
    run.wait_for("| ready")
    (run.folder / "again").touch()
    run.main.send_signal(RESTART_SIGNAL)
    run.wait_for("web started", times=2)
    assert "web is still running after SIGTERM; sending SIGKILL" in run.output()
    run.main.terminate()
    assert run.wait_ended() == 0


def test_parent_of_processes_gets_the_signal(manage: Manage) -> None:
    parent = f"trap 'echo forwarded' {RESTART_SIGNAL.name[3:]}; {STOPS}"
    run = manage({"web": {"command": parent, "forwards_restart": True}, "worker": STOPS})
    run.wait_for("| ready", times=2)
    run.main.send_signal(RESTART_SIGNAL)
    run.wait_for("| forwarded")
    run.main.terminate()
    assert run.wait_ended() == 0
    assert run.output().count("web started") == 1


def test_certificate_that_cannot_be_used_restarts_nothing(tmp_path: Path) -> None:
    files = write_certificate(tmp_path / "tls", ["localhost"])
    variables = {"MAHAVISHNU_TLS_CERTIFICATE": str(files.certificate), "MAHAVISHNU_TLS_KEY": str(files.key)}
    with running(f"touch {tmp_path}/$$.ready; exec sleep 60", tmp_path, **variables) as run:
        wait_until(lambda: len(list(tmp_path.glob("*.ready"))) == 2, timeout_seconds=LIMIT_SECONDS)
        files.certificate.write_text("renewed in part")
        run.send_signal(RESTART_SIGNAL)
        log = tmp_path / "websocket.log"
        wait_until(lambda: "restarting no process: " in log.read_text(), timeout_seconds=LIMIT_SECONDS)
        run.send_signal(signal.SIGTERM)
        assert run.wait(LIMIT_SECONDS) == 0
    assert "Restarting" not in log.read_text()
