"""The steps that a stage remembers over attempts and retries, under a model."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration import services
from orchestration.models import Stage, StepRecord, Workflow
from orchestration.plan import Plan, Retry, StagePlan

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

NAMES = ("first", "second", "third")


class Run:
    """A run of three stages, one after another, with the outputs of steps that it should remember."""

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        stages = tuple(
            StagePlan(name=name, step=step, retries=Retry(max_attempts=1000, backoff_seconds=0))
            for step, name in enumerate(NAMES)
        )
        services.start_run(
            Plan(name="steps", adapter="python", stages=stages),
            prompt="",
            params={},
            pool_id=self.id,
            workflow_id=self.id,
        )
        worker_id = services.join_pool(name=self.id, process=self.id, pool_id=self.id)
        self.slot = services.Slot(worker_id=worker_id, process=self.id)
        self.attempts: list[tuple[int, int]] = []
        self.remembered: dict[str, dict[str, int]] = {name: {} for name in NAMES}
        self.paid = 0

    def stage(self, status: str) -> Stage | None:
        return Stage.objects.filter(workflow_id=self.id, status=status).order_by("step").first()

    def claim(self) -> None:
        if (stage := self.stage("queued")) is not None:
            claim = services.claim_stage(stage.pk, stage.attempt + 1, slot=self.slot)
            assert claim is not None
            self.attempts.append((stage.pk, claim.attempt))

    def step(self, name: str, argument: str, number: int) -> None:
        """Call a step in one of the attempts so far: the running one, which is claimed if there is none, or others."""
        if self.stage("running") is None:
            self.claim()
        if not self.attempts:
            return
        stage_id, attempt = self.attempts[-1 - number % len(self.attempts)]
        stage = Stage.objects.get(pk=stage_id)
        values: dict[str, Any] = {"name": name, "arguments_digest": argument}
        remembered = self.remembered[stage.name]
        self.paid += 1
        store = {**values, "output": self.paid, "output_bytes": 1}
        if (stage.status, stage.attempt) != ("running", attempt):
            with pytest.raises(services.AttemptEnded):
                services.find_step(stage_id, attempt, **values, max_steps=1000)
            with pytest.raises(services.AttemptEnded):
                services.store_step(stage_id, attempt, **store)
        elif name not in {key.split()[0] for key in remembered}:
            assert services.find_step(stage_id, attempt, **values, max_steps=1000) is None
            assert services.store_step(stage_id, attempt, **store).output == self.paid
            remembered[f"{name} {argument}"] = self.paid
        elif f"{name} {argument}" in remembered:
            found = services.find_step(stage_id, attempt, **values, max_steps=1000)
            assert found is not None
            assert found.output == services.store_step(stage_id, attempt, **store).output
            assert found.output == remembered[f"{name} {argument}"]
        else:
            with pytest.raises(services.StepConflict):
                services.find_step(stage_id, attempt, **values, max_steps=1000)
            with pytest.raises(services.StepConflict):
                services.store_step(stage_id, attempt, **store)

    def end(self, how: str) -> None:
        if (stage := self.stage("running")) is not None:
            match how:
                case "complete":
                    services.complete_attempt(stage.pk, stage.attempt, slot=self.slot, output=None)
                case "fail":
                    services.fail_attempt(stage.pk, stage.attempt, slot=self.slot, error="", may_retry=True)
                case "fail for good":
                    services.fail_attempt(stage.pk, stage.attempt, slot=self.slot, error="", may_retry=False)
                case "release":
                    services.release_attempt(stage.pk, stage.attempt, slot=self.slot, error="")

    def retry(self, from_stage: str | None) -> None:
        workflow = Workflow.objects.get(pk=self.id)
        if workflow.finished_at is None:
            services.cancel_workflow(workflow_id=self.id)
            # The worker notices, and ends its attempt.
            worker_stage = Stage.objects.filter(workflow_id=self.id, attempt__gt=0)
            for stage in worker_stage:
                services.fail_attempt(stage.pk, stage.attempt, slot=self.slot, error="")
            workflow.refresh_from_db()
        if workflow.status == "completed" and from_stage is None:
            return
        if from_stage is not None and workflow.stages.get(name=from_stage).status == "completed":
            for name in NAMES[NAMES.index(from_stage) :]:
                self.remembered[name] = {}
        elif from_stage is not None:
            later = workflow.stages.filter(step__gte=NAMES.index(from_stage), status="completed")
            assert not later.exists()
        services.retry_run(workflow_id=self.id, from_stage=from_stage)

    def check(self) -> None:
        stored: dict[str, dict[str, Any]] = {name: {} for name in NAMES}
        for record in StepRecord.objects.filter(stage__workflow_id=self.id).select_related("stage"):
            stored[record.stage.name][f"{record.name} {record.arguments_digest}"] = record.output
        assert stored == self.remembered


OPERATIONS = st.one_of(
    st.tuples(st.just("step"), st.sampled_from("abc"), st.sampled_from("xxxy"), st.sampled_from((0, 0, 0, 1, 2))),
    st.tuples(st.just("end"), st.sampled_from(("complete", "complete", "fail", "fail for good", "release"))),
    st.tuples(st.just("retry"), st.sampled_from((None, *NAMES))),
)


def run_with_steps(*, ended: str) -> Run:
    """Return a run with a step in the completed first stage, and one in the second, whose attempt ended like this."""
    run = Run()
    for end in ("complete", ended):
        run.claim()
        run.step("a", "x", 0)
        run.end(end)
    run.check()
    return run


@pytest.mark.parametrize("ended", ["complete", "fail", "fail for good", "release"])
@pytest.mark.parametrize("from_stage", [None, "second"])
def test_retry_keeps_the_steps_of_stages_that_did_not_complete(ended: str, from_stage: str | None) -> None:
    run = run_with_steps(ended=ended)
    run.retry(from_stage)
    run.check()
    assert run.remembered["first"] == {"a x": 1}
    assert (run.remembered["second"] == {}) == (ended == "complete" and from_stage == "second")


@pytest.mark.parametrize("ended", ["complete", "fail for good"])
def test_retry_from_a_completed_stage_forgets_its_steps_and_those_of_later_stages(ended: str) -> None:
    run = run_with_steps(ended=ended)
    run.retry("first")
    run.check()
    assert not StepRecord.objects.filter(stage__workflow_id=run.id).exists()


@given(operations=st.lists(OPERATIONS, min_size=4, max_size=20))
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_stage_remembers_its_steps_until_it_is_repeated_on_purpose(operations: list[tuple[Any, ...]]) -> None:
    run = Run()
    for operation, *arguments in operations:
        getattr(run, operation)(*arguments)
        run.check()
