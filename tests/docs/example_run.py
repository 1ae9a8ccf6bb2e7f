"""The run that the examples of `docs/protocol.md` show, driven through the services in another process."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from django.db import connection

from orchestration import services
from orchestration.models import Stage, Wait, Workflow
from orchestration.models.pool_sample import SAMPLE_INTERVAL_SECONDS
from orchestration.plan import Each, Plan, Retry, StagePlan, WaitPlan
from realtime.eventlog.position import current_position
from realtime.eventlog.reader import newest_seq_by_room
from realtime.models import Log
from realtime.protocol.channels import GLOBAL

if TYPE_CHECKING:
    from tests.harness.server import MahavishnuServer

EPOCH = "7d9f3a52c1e84b06"
"""The epoch of the log in the documents."""

_EIGHT_O_CLOCK = datetime(2026, 2, 10, 20, tzinfo=UTC)


def reset_log() -> None:
    """Replace the empty log by one with the epoch of the documents."""
    Log.objects.all().delete()
    Log.objects.create(pk=1, epoch=EPOCH)


def run_example(*causes: str) -> dict[str, int]:
    """Make every change that the documents show, and return the last `seq` of each channel.

    The first workflow's events are the log's first five, as in the example of resuming.

    Args:
        *causes: Python code from the documents, run at the end. It may use `services` and `at(seconds)`.
    """
    _complete_workflow()
    _fail_workflows()
    _run_stages_in_pool()
    _empty_pool()
    _retry_stage_in_run()
    _run_items()
    _change_stages()
    _wait_for_answers()
    for cause in causes:
        exec(cause, {"services": services, "at": _at})
    return {**newest_seq_by_room(after=0), GLOBAL: current_position().seq}


def _at(seconds: float) -> datetime:
    return _EIGHT_O_CLOCK + timedelta(seconds=seconds)


def _complete_workflow() -> None:
    services.create_workflow(
        workflow_id="wf_abc123",
        name="write_code",
        adapter="llamaindex",
        prompt="Write code",
        stages=["planning", "code_generation"],
        at=_at(-1),
    )
    services.start_workflow(workflow_id="wf_abc123", at=_at(0))
    services.complete_stage(workflow_id="wf_abc123", stage_name="planning", at=_at(1))
    services.complete_stage(
        workflow_id="wf_abc123",
        stage_name="code_generation",
        result={"output": "Success", "duration_ms": 1500},
        at=_at(5),
    )
    result = {"final_output": "Code generated successfully", "total_duration_ms": 5000}
    services.complete_workflow(workflow_id="wf_abc123", result=result, at=_at(10))
    # The example of a list of waits.
    stage = Stage.objects.get(workflow_id="wf_abc123", name="planning")
    asked = {"kind": "ask", "title": "Is this plan good?", "schema": {"type": "boolean"}, "recipients": "group:ops"}
    times = {"opened_at": _at(0), "answered_at": _at(1)}
    answered = {"status": "answered", "answered_by": "ada", **times}
    Wait.objects.create(pk=17, workflow_id="wf_abc123", stage=stage, name="planning", **asked, **answered)


def _fail_workflows() -> None:
    services.create_workflow(
        workflow_id="wf_late",
        name="write_code",
        adapter="llamaindex",
        prompt="Write code",
        stages=["code_generation"],
        at=_at(-1),
    )
    services.start_workflow(workflow_id="wf_late", at=_at(0))
    services.fail_stage(
        workflow_id="wf_late", stage_name="code_generation", error="The model did not answer", at=_at(7)
    )
    services.time_out_workflow(workflow_id="wf_late", at=_at(8))
    services.create_workflow(
        workflow_id="wf_unwanted",
        name="write_code",
        adapter="llamaindex",
        prompt="Write code",
        stages=["planning"],
        at=_at(0),
    )
    services.cancel_workflow(workflow_id="wf_unwanted", reason="No longer needed", at=_at(20))


def _retry_stage_in_run() -> None:
    generate = StagePlan(name="generate", step=0, retries=Retry(max_attempts=2, backoff_seconds=0))
    review = StagePlan(name="review", step=1)
    workflow = services.start_run(
        Plan(name="write_code", adapter="python", stages=(generate, review)),
        prompt="Write code",
        params={},
        pool_id="pool_again",
        workflow_id="wf_again",
        at=_at(60),
    )
    services.hold_unclaimed("pool_again", ["wf_again"], at=_at(60))
    worker_id = services.join_pool(name="again", process="again", pool_id="pool_again", at=_at(60))
    slot = services.Slot(worker_id=worker_id, process="again")
    stage_id = workflow.stages.get(name="generate").pk
    services.claim_stage(stage_id, 1, slot=slot, at=_at(61))
    services.report_message(stage_id, 1, message="The prompt has 312 words", at=_at(62))
    services.open_stream(stage_id, 1, name="answer", content_type="text", at=_at(62))
    services.report_progress(stage_id, 1, progress=0.4, message="Asking the model", at=_at(63))
    step = services.StepReport(name="outline", cached=False, steps_completed=1)
    services.report_step(stage_id, 1, report=step, at=_at(63))
    error = "ConnectionError: The model did not answer"
    services.fail_attempt(stage_id, 1, slot=slot, error=error, at=_at(64))
    services.claim_stage(stage_id, 2, slot=slot, at=_at(64))
    services.release_attempt(stage_id, 2, slot=slot, error="The worker was stopped", at=_at(65))
    services.claim_stage(stage_id, 3, slot=slot, at=_at(66))
    services.complete_attempt(
        stage_id, 3, slot=slot, output="print(1)", continue_inline=services.nothing_missing, at=_at(67)
    )
    services.drain_worker(worker_id=worker_id, at=_at(68))
    services.drain_pool(pool_id="pool_again", at=_at(68))
    services.reopen_pool(pool_id="pool_again", at=_at(75))
    services.leave_pool(worker_id=worker_id, process="again", error="The worker was stopped", at=_at(69))
    services.create_pool(pool_id="pool_spare", at=_at(70))
    services.reassign_workflow(workflow_id="wf_again", to_pool_id="pool_spare", at=_at(71))
    services.join_pool(name="again", process="again 2", pool_id="pool_spare", at=_at(72))
    services.leave_pool(worker_id=worker_id, process="again 2", error="The worker was stopped", at=_at(73))
    services.cancel_workflow(workflow_id="wf_again", at=_at(74))
    services.retry_run(workflow_id="wf_again", at=_at(75))
    services.cancel_workflow(workflow_id="wf_again", at=_at(76))
    # The example of a snapshot must not list these pools and this workflow.
    services.remove_worker(worker_id=worker_id, at=_at(77))
    with patch("django.utils.timezone.now", lambda: _at(78)):
        Workflow.objects.get(pk="wf_again").delete()
    for pool_id in ("pool_again", "pool_spare"):
        services.remove_pool(pool_id=pool_id, at=_at(79))


def _run_items() -> None:
    services.create_pool(pool_id="pool_index", at=_at(60))
    embed = StagePlan(name="embed", step=0, each=Each(of="list_files"))
    workflow = services.start_run(
        Plan(name="ingest", adapter="python", stages=(embed,)),
        prompt="Index the files",
        params={},
        pool_id="pool_index",
        workflow_id="wf_index",
        at=_at(60),
    )
    worker_id = services.join_pool(name="index", process="index", pool_id="pool_index", at=_at(60))
    slot = services.Slot(worker_id=worker_id, process="index")
    stage_id = workflow.stages.get().pk
    services.claim_stage(stage_id, 1, slot=slot, at=_at(62))
    services.start_map(stage_id, 1, slot=slot, values=["a.txt", "b.txt"], at=_at(63))
    for item_id in workflow.stages.filter(item_of=stage_id).order_by("item_index").values_list("pk", flat=True):
        services.claim_stage(item_id, 1, slot=slot, at=_at(63))
        services.complete_attempt(item_id, 1, slot=slot, output=1, at=_at(64))
    # The examples of lists must not have these.
    services.leave_pool(worker_id=worker_id, process="index", error="The worker was stopped", at=_at(65))
    services.remove_worker(worker_id=worker_id, at=_at(66))
    with patch("django.utils.timezone.now", lambda: _at(67)):
        Workflow.objects.get(pk="wf_index").delete()
    services.remove_pool(pool_id="pool_index", at=_at(68))


def _wait_for_answers() -> None:
    question = WaitPlan(
        kind="ask",
        name="approve",
        title="Deploy app:7?",
        schema={
            "title": "Approval",
            "type": "object",
            "properties": {"approved": {"type": "boolean"}},
            "required": ["approved"],
            "additionalProperties": False,
        },
        recipients=("group:ops",),
    )
    late = WaitPlan(kind="ask", name="confirm", timeout_seconds=1, on_timeout={"value": {}})
    stages = tuple(StagePlan(name=each.name, step=step, wait=each) for step, each in enumerate((question, late)))
    workflow = services.start_run(
        Plan(name="release", adapter="python", stages=stages),
        prompt="Release",
        params={},
        pool_id="pool_release",
        workflow_id="wf_release",
        at=_at(100),
    )
    worker_id = services.join_pool(name="release", process="release", pool_id="pool_release", at=_at(100))
    slot = services.Slot(worker_id=worker_id, process="release")
    approve, confirm = (workflow.stages.get(name=each.name).pk for each in stages)
    services.claim_stage(approve, 1, slot=slot, at=_at(101))
    services.open_wait(approve, 1, slot=slot, wait=question, at=_at(101))
    services.answer_wait(workflow_id="wf_release", name="approve", answer={"approved": True}, by="ada", at=_at(102))
    services.claim_stage(confirm, 1, slot=slot, at=_at(103))
    services.open_wait(confirm, 1, slot=slot, wait=late, at=_at(103))
    wait = Wait.objects.get(name="confirm")
    services.expire_wait(wait.pk, due_before=wait.expires_at or _at(104), at=_at(104))
    services.leave_pool(worker_id=worker_id, process="release", error="The worker was stopped", at=_at(105))
    services.remove_worker(worker_id=worker_id, at=_at(106))
    with patch("django.utils.timezone.now", lambda: _at(107)):
        Workflow.objects.get(pk="wf_release").delete()
    services.remove_pool(pool_id="pool_release", at=_at(108))


def _change_stages() -> None:
    """Skip a stage, as a service does, and add and remove one, as another application may."""
    services.create_workflow(
        workflow_id="wf_partial",
        name="write_code",
        adapter="llamaindex",
        prompt="Write code",
        stages=["planning", "review"],
        at=_at(80),
    )
    services.start_workflow(workflow_id="wf_partial", at=_at(80))
    services.skip_stage(workflow_id="wf_partial", stage_name="review", at=_at(81))
    with patch("django.utils.timezone.now", lambda: _at(82)):
        stage = Stage.objects.create(workflow_id="wf_partial", name="publishing", position=2)
        stage.delete()
    services.complete_workflow(workflow_id="wf_partial", at=_at(83))


def _run_stages_in_pool() -> None:
    services.create_pool(pool_id="pool_local", at=_at(-120))
    for number in (1, 2):
        services.register_worker(worker_id=f"worker_00{number}", pool_id="pool_local", at=_at(-120 + number))
    stages = [f"stage_{number:02}" for number in range(1, 11)]
    services.create_workflow(
        workflow_id="wf_report",
        name="write_report",
        adapter="llamaindex",
        prompt="Write a report",
        stages=stages,
        pool_id="pool_local",
        at=_at(-60),
    )
    services.start_workflow(workflow_id="wf_report", at=_at(0))
    services.change_worker_status(worker_id="worker_001", status="busy", at=_at(0))
    services.start_stage(workflow_id="wf_report", stage_name=stages[0], worker_id="worker_001", at=_at(1))
    for number in range(3):
        services.complete_stage(workflow_id="wf_report", stage_name=stages[number], at=_at(2 + number))
    services.sample_pools(int(time.time()) // SAMPLE_INTERVAL_SECONDS * SAMPLE_INTERVAL_SECONDS)


def _empty_pool() -> None:
    services.create_pool(pool_id="pool_old", at=_at(-300))
    services.register_worker(worker_id="worker_003", pool_id="pool_old", at=_at(-290))
    services.drain_pool(pool_id="pool_old", at=_at(50))
    services.remove_worker(worker_id="worker_003", at=_at(60))


def hide_table(name: str) -> None:
    """Rename a table, so that every query of it fails."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {name} RENAME TO {name}_hidden")


def restore_table(name: str) -> None:
    """Rename the table back."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {name}_hidden RENAME TO {name}")


def fill_send_queue() -> None:
    """Publish more bytes than the sockets between two local processes and the send queue hold together."""
    for _ in range(100):
        services.create_workflow(adapter="python", prompt="x" * 60_000, stages=["only"])


def call_in(server: MahavishnuServer, function: str, *arguments: str) -> Any:
    """Call a function of this module in the services process of a server, and return its result."""
    return server.services_driver.execute(
        "from tests.docs import example_run\nresult = getattr(example_run, function)(*arguments)",
        function=function,
        arguments=arguments,
    )
