"""Other ends of the jobs, as their pages promise them: time limits, refusals, cancellation, preemption, retries."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

import mahavishnu_client
from orchestration.processes import process_tree
from tests.cookbook.installation import Installation, RefusedLine
from tests.cookbook.jobs import JOBS, TEST_MODULE, wait_at
from tests.cookbook.trial import HOUR, Trial, begin, start
from tests.docs.markdown import blocks
from tests.harness.browser import NODE
from tests.harness.processes import has_ended
from tests.harness.waiting import eventually
from tests.javascript.node_client import MODULE

WS_ADDRESS = "ws://127.0.0.1:8690"


async def end_of(trial: Trial) -> str:
    """Wait for the end of a run, check that its events make its state, and return its status."""
    await trial.watch.until_end()
    await trial.watch.assert_nothing_is_silent()
    return str(trial.stored()["status"])


async def test_deployment_without_a_decision_is_not_made(installation: Installation, tmp_path: Path) -> None:
    async with begin(installation, "approval", tmp_path, "--param", "hours=0.0001") as trial:
        assert await end_of(trial) == "completed"
        assert trial.output() == {"deploy": None, "keep": "There was no decision"}
    assert trial.lines("journal") == ["built shop:7"]
    assert len(trial.watch.of("workflow.wait_expired")) == 1


async def test_deployment_is_approved_with_the_command(installation: Installation, tmp_path: Path) -> None:
    async with begin(installation, "approval", tmp_path) as trial:
        await trial.watch.until("workflow.waiting")
        await trial.run_line("answer_workflow")
        assert await end_of(trial) == "completed"
        (answered,) = trial.watch.of("workflow.wait_answered")
        assert answered["by"]
        assert trial.output()["deploy"] == f"shop:7 was approved by {answered['by']}"


async def test_training_is_preempted_without_a_lost_epoch_or_attempt(
    installation: Installation, tmp_path: Path
) -> None:
    job = JOBS["training"]
    gates = job.arrange(tmp_path, 0)
    worker = installation.worker(job.pool)
    async with begin(installation, "training", tmp_path) as trial:
        await wait_at(gates)
        stopped = asyncio.create_task(asyncio.to_thread(installation.stop_worker, job.pool))
        await eventually(lambda: "Warm shutdown" in worker.log_text(), what="the notice")
        for gate in gates:
            gate.open()
        await trial.watch.until("workflow.stage_released", reason="worker_stopped")
        await stopped
        await asyncio.to_thread(installation.start_worker, job.pool)
        assert await end_of(trial) == "completed"
        job.check(trial, 0)
        assert trial.stored()["stages"]["train"]["lost_attempts"] == 0


async def test_cancelled_transcode_stops_its_encoders_and_leaves_no_half_files(
    installation: Installation, tmp_path: Path
) -> None:
    job = JOBS["transcode"]
    gates = job.arrange(tmp_path, 6)
    worker = installation.worker("local")
    async with begin(installation, "transcode", tmp_path, *job.arguments) as trial:
        await wait_at(gates)
        encoders = [each for child in worker.children() for each in process_tree(child.pid) if each.pid != child.pid]
        assert len(encoders) >= 2 * len(gates)
        assert len(list((tmp_path / "film").glob("*.part"))) == len(gates)
        await trial.run_line("cancel_workflow")
        assert await end_of(trial) == "cancelled"
        await eventually(lambda: all(map(has_ended, encoders)), what="the end of the encoders")
    assert list((tmp_path / "film").glob("*.part")) == []
    encoded = [path.with_suffix(".ts").name for path in sorted((tmp_path / "film").glob("*.mp4"))]
    assert trial.lines("film/journal") == encoded
    assert not {"03.ts", "04.ts"} & set(encoded)
    assert trial.stored()["error"] == "Wrong film"


async def test_page_shows_the_tokens_of_a_turn(installation: Installation, tmp_path: Path) -> None:
    gates = JOBS["agent-loop"].arrange(tmp_path, 0)
    async with begin(installation, "agent-loop", tmp_path) as trial:
        opened = await trial.watch.until("workflow.stream_opened", stage_name="agent_turn_2")
        async with mahavishnu_client.connect(installation.server.ws_url) as client:
            stream = client.stream(trial.workflow_id, opened.data.stage_name, opened.data.stream_name)
            await wait_at(gates)
            for gate in gates:
                gate.open()
            text = "".join([str(item.data) async for item in stream if isinstance(item, mahavishnu_client.Chunk)])
        assert text == '{"tool": "read_file", "file": "b.txt"}'
        assert await end_of(trial) == "completed"
        (script,) = blocks(trial.recipe.path, language="javascript")
        shown = await asyncio.to_thread(run_in_node, trial, script.text)
    assert "a.txt" in shown


def run_in_node(trial: Trial, script: str) -> str:
    """Run a script of a page about a run, and return what it shows."""
    served = "/static/realtime/clients/1.0.0/mahavishnu.js"
    address = trial.installation.server.ws_url
    for text, other in ((served, MODULE.as_uri()), (WS_ADDRESS, address), ("wf_1", trial.workflow_id)):
        assert text in script
        script = script.replace(text, other)
    command = [NODE, "--input-type=module", "--eval", f"{script}client.close();"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_load_with_two_failures_fails_and_a_retry_loads_only_the_rest(
    installation: Installation, tmp_path: Path
) -> None:
    gates = JOBS["nightly-load"].arrange(tmp_path, 0)
    (tmp_path / "sources" / "stock.csv").unlink()
    async with begin(installation, "nightly-load", tmp_path) as trial:
        await wait_at(gates)
        for gate in gates:
            gate.open()
        assert await end_of(trial) == "failed"
        assert trial.lines("sources/journal") == ["customers", "orders", "payments"]
        (tmp_path / "sources" / "stock.csv").write_text("1\n2\n")
        await trial.run_line("retry_workflow")
        await trial.watch.until("workflow.retried")
        assert await end_of(trial) == "completed"
        JOBS["nightly-load"].check(trial, 0)


async def test_links_are_checked_as_sub_runs(installation: Installation, tmp_path: Path) -> None:
    JOBS["found-items"].arrange(tmp_path, 0)
    names = [f"page_{number}" for number in range(5)]
    for name in names:
        (tmp_path / "site" / name).write_text("12")
    (tmp_path / "site" / "links").write_text(" ".join(names))
    async with begin(installation, "found-items", tmp_path, name="check_links_as_runs") as trial:
        assert await end_of(trial) == "completed"
        assert trial.output() == {"links": 5, "bytes": 10, "broken": 0}
    assert trial.lines("site/requests") == names
    code = "from orchestration.models import Workflow\nresult = Workflow.objects.filter(parent_id=parent).count()"
    assert installation.engine.execute(code, parent=trial.workflow_id) == 5


async def test_build_whose_tests_fail_is_not_packed(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "test_build.py").write_text(TEST_MODULE)
    (tmp_path / "project" / "data").write_text("not ready")
    async with begin(installation, "build", tmp_path) as trial:
        assert await end_of(trial) == "failed"
    assert trial.stored()["error"].startswith("The stage test failed: ")
    assert not (tmp_path / "journal").exists()


def test_second_start_of_an_hour_is_the_first_run(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "orders").write_text("")
    page = "hourly-report"
    assert start(installation, page, tmp_path) == start(installation, page, tmp_path)
    with pytest.raises(RefusedLine, match=f"{HOUR}.*other"):
        start(installation, page, tmp_path, "--param", "hour=other")
