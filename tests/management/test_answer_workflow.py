"""`manage.py answer_workflow`."""

from __future__ import annotations

from tests.harness.commands import command
from tests.harness.engine import Engine
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
