"""`manage.py answer_workflow`."""

from __future__ import annotations

import subprocess
import sys

from tests.harness.commands import command
from tests.harness.engine import Engine
from tests.harness.programs import PROJECT_DIR
from tests.harness.waiting import wait_until


def test_question_is_answered_from_the_command_line(engine: Engine, pool: str) -> None:
    engine.worker(pool_id=pool)
    server = engine.server
    refused = command(server, "answer_workflow", "wf_typed")
    assert (refused.returncode, refused.stderr) == (1, "CommandError: Workflow wf_typed does not ask now.\n")
    engine.start("deployment", pool=pool, workflow_id="wf_typed")
    wait_until(
        lambda: engine.workflow("wf_typed")["stages"]["approve"]["status"] == "waiting",
        timeout_seconds=60,
        what="the run asks",
    )
    assert command(server, "answer_workflow", "wf_typed").stderr == (
        "CommandError: Expected --json: standard input is not a terminal.\n"
    )
    done = command(server, "answer_workflow", "wf_typed", "--json", '{"approved": 1}')
    assert done.returncode == 1
    assert "approved: Expected `bool`, got `int`" in done.stderr
    done = command(server, "answer_workflow", "wf_typed", "approve", "--json", '{"approved": true}', "--by", "ada")
    url = f"{server.http_url}/workflows/wf_typed"
    assert (done.returncode, done.stdout) == (0, f"wf_typed: approve answered  {url}\n"), done.stderr
    wait_until(lambda: engine.workflow("wf_typed")["status"] == "completed", timeout_seconds=60, what="the run ends")
    assert engine.workflow("wf_typed")["result"]["final_output"]["by"] == "ada"


def test_run_that_asks_is_shown_until_its_end(engine: Engine, pool: str) -> None:
    engine.worker(pool_id=pool)
    server = engine.server
    arguments = [sys.executable, "manage.py", "run_workflow", "deployment", "--pool", pool, "--key", pool, "--watch"]
    with subprocess.Popen(
        arguments, cwd=PROJECT_DIR, env=server.environment, text=True, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or "answer with: " not in lines[-1]:
            lines.append(process.stdout.readline().rstrip("\n"))
        _, _, answer = lines[-1].partition("answer with: manage.py ")
        done = command(server, *answer.split(), "--json", '{"approved": true}', "--by", "ada")
        assert done.returncode == 0, done.stderr
        rest = process.stdout.read().splitlines()
    assert process.returncode == 0
    assert lines[-2].startswith("approve asks: Deploy app:1 for ? (for group:ops), until 20")
    assert rest[0] == "approve: wait answered by ada"
