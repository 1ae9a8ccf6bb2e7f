"""What a worker lacks for a stage: code that cannot be imported, adapters that cannot be made, checks that fail."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestration import services
from orchestration.models import FailedAttempt, Stage, Workflow
from orchestration.plan import Plan, StagePlan
from orchestration.sdk import MissingDependency, MissingRequirement, functions
from orchestration.worker import code_check
from orchestration.worker.executor import _claim
from orchestration.worker.outcome import record_outcome
from orchestration.worker.stage_result import Raised
from tests.services.one_stage_runs import join

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey", "new_process"),
]


@pytest.fixture
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what this process has found missing."""
    for name, empty in (("_adapters", {}), ("_logged", set())):
        monkeypatch.setattr(code_check, name, empty)
    monkeypatch.setattr(functions, "_broken", {})


class Unmade:
    """An adapter whose package is missing."""

    def __init__(self) -> None:
        raise MissingDependency("crew", "crewai")


class Exiting:
    """An adapter whose constructor ends the process."""

    def __init__(self) -> None:
        raise SystemExit("no licence")


class Checking:
    """An adapter whose check does what the stage's call names."""

    def find_missing(self, stage: StagePlan, *, may_block: bool) -> str | None:
        match stage.call:
            case "raises":
                raise KeyError("GPU")
            case "exits":
                raise SystemExit
            case "lacks":
                raise MissingRequirement("a GPU", "the driver is too old")
            case "unstorable":
                return "program\n\x00x"
        return None if not may_block else ""


def start(call: str, *, adapter: str = "python", workflow_id: str = "wf") -> Stage:
    plan = Plan(name="demo", adapter=adapter, stages=(StagePlan(name="one", step=0, call=call),))
    run = services.start_run(plan, prompt="", params={}, pool_id="pool", workflow_id=workflow_id)
    return run.stages.get()


def needs_of(stage: Stage, slot: services.Slot) -> str:
    """Offer the stage to this worker, which must lack something, and return that."""
    with pytest.raises(services.StageNotRunnable) as refused:
        _claim(stage.pk, 1, slot)
    return refused.value.needs


BROKEN = {
    "syntax": ("stage(\n", "SyntaxError: '(' was never closed (broken_syntax.py, line 1)"),
    "name": ("undefined\n", "NameError: name 'undefined' is not defined"),
    "value": ("raise ValueError('no key')\n", "ValueError: no key"),
    "exit": ("raise SystemExit('no key')\n", "SystemExit: no key"),
    "import": ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'"),
    "attribute": ("", "AttributeError: module 'broken_attribute' has no attribute 'work'"),
    "uncallable": ("work = 7\n", "it is not callable"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_stage_of_a_broken_module_is_held_with_the_cause_and_another_process_takes_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    code, cause = BROKEN[kind]
    (tmp_path / f"broken_{kind}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    stage, slot = start(f"broken_{kind}:work"), join("old")
    needs = f"broken_{kind}:work ({cause})"
    with caplog.at_level(logging.WARNING, "orchestration.worker"):
        assert [needs_of(stage, slot) for _ in range(3)] == [needs] * 3
        assert needs_of(start(f"broken_{kind}:work", workflow_id="wf_2"), slot) == needs
    lines = [record.getMessage() for record in caplog.records if record.name == code_check.__name__]
    assert lines == [f"This worker lacks {needs}; stages that need it wait for another worker"]
    assert Workflow.objects.get(pk="wf").held_needs == needs
    assert not FailedAttempt.objects.exists()
    sys.modules.pop(f"broken_{kind}", None)
    assert services.claim_stage(stage.pk, 1, slot=join("new")) is not None
    assert Workflow.objects.get(pk="wf").held_needs == ""


def test_broken_module_is_executed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = tmp_path / "journal"
    journal.touch()
    code = (
        f"import pathlib\npath = pathlib.Path({str(journal)!r})\npath.write_text(path.read_text() + '.')\nundefined\n"
    )
    (tmp_path / "broken_once.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    stage, slot = start("broken_once:work"), join("box")
    for _ in range(3):
        needs_of(stage, slot)
    assert journal.read_text() == "."


@pytest.mark.parametrize(
    ("adapter", "call", "needs"),
    [
        ("unmade", "", "package crewai"),
        ("exiting", "", "adapter exiting (UnknownAdapter: Adapter exiting cannot be imported: SystemExit: no licence)"),
        ("absent", "", "adapter absent (UnknownAdapter: Adapter absent cannot be imported: ModuleNotFoundError: "),
        ("unknown", "", "adapter unknown (UnknownAdapter: Adapter unknown not found. Known adapters: "),
        ("checking", "raises", "raises (KeyError: 'GPU')"),
        ("checking", "exits", "exits (SystemExit)"),
        ("checking", "lacks", "a GPU (the driver is too old)"),
        ("checking", "unstorable", "program \ufffdx"),
    ],
)
def test_adapter_or_check_that_fails_is_missing_code(settings: Any, adapter: str, call: str, needs: str) -> None:
    own = {name.lower(): f"{__name__}.{name}" for name in ("Unmade", "Exiting", "Absent", "Checking")}
    own["absent"] = "no_such_package.Absent"
    settings.MAHAVISHNU_ADAPTERS = {**settings.MAHAVISHNU_ADAPTERS, **own}
    stage, slot = start(call, adapter=adapter), join("box")
    for _ in range(2):
        assert needs_of(stage, slot).startswith(needs)
    assert Workflow.objects.get().held_reason == "no_worker_with"


def test_check_without_an_answer_before_an_import_is_made_again_outside_of_the_transaction(settings: Any) -> None:
    settings.MAHAVISHNU_ADAPTERS = {**settings.MAHAVISHNU_ADAPTERS, "checking": f"{__name__}.Checking"}
    code_check.load_adapters()
    assert _claim(start("importable", adapter="checking").pk, 1, join("box")) is not None


def test_attempt_that_finds_a_requirement_missing_is_released_and_its_process_does_not_repeat_it() -> None:
    stage, slot, sibling = start(f"{__name__}:start"), join("box"), join("box")
    claim = _claim(stage.pk, 1, slot)
    assert claim is not None
    error = MissingRequirement("program ffmpeg", "No such\nfile")
    assert record_outcome(claim, slot, Raised(error), continue_inline=False) is None
    for each in (slot, sibling):
        with pytest.raises(services.StageNotRunnable) as refused:
            _claim(stage.pk, 2, each)
        assert refused.value.needs == "program ffmpeg"
    workflow = Workflow.objects.get()
    assert (workflow.held_reason, workflow.held_needs) == ("no_worker_with", "program ffmpeg (No such file)")
    attempts = FailedAttempt.objects.values_list("attempt", "reason", "error", "traceback")
    assert list(attempts) == [(1, "not_runnable", "program ffmpeg", "No such file")]
    assert services.claim_stage(stage.pk, 2, slot=join("other")) is not None


class Bare(MissingRequirement):
    def __init__(self) -> None:
        pass


def test_requirement_of_a_subclass_without_a_name_is_its_text() -> None:
    assert str(code_check.requirement_of(MissingDependency("crew", "crewai"))) == "package crewai"
    assert code_check.requirement_of(Bare()).name == "Bare"
