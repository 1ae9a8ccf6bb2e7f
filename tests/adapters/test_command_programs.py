"""Programs of commands that a worker found once: it looks for them again when they may be missing."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("found_missing_by", ["run", "check"])
def test_program_that_was_found_and_is_removed_is_looked_for_again(tmp_path: Path, found_missing_by: str) -> None:
    from orchestration.adapters.command import CommandAdapter, command
    from orchestration.plan import StagePlan
    from orchestration.sdk import MissingRequirement
    from orchestration.testing import fake_context

    program = tmp_path / "program"
    program.symlink_to("/bin/sh")
    stage = StagePlan(name="program", step=0, options=dict(command(str(program), "-c", "exit 0").options))
    adapter = CommandAdapter()
    assert adapter.find_missing(stage, may_block=True) == ""
    program.unlink()
    if found_missing_by == "run":
        with pytest.raises(MissingRequirement):
            adapter.run(stage, fake_context(), {"prompt": ""})
    else:
        assert adapter.find_missing(stage, may_block=True) == f"program {program}"
    assert adapter.find_missing(stage, may_block=False) is None
    program.symlink_to("/bin/sh")
    assert adapter.run(stage, fake_context(), {"prompt": ""})["exit_code"] == 0


def test_program_that_was_found_is_looked_for_again_in_another_path(tmp_path: Path) -> None:
    from orchestration.adapters.command import CommandAdapter, command
    from orchestration.plan import StagePlan

    adapter = CommandAdapter()
    found, missing = (
        StagePlan(name="sh", step=0, options=dict(command("sh", variables=variables).options))
        for variables in ({}, {"PATH": str(tmp_path)})
    )
    assert adapter.find_missing(found, may_block=True) == ""
    assert adapter.find_missing(found, may_block=False) == ""
    assert adapter.find_missing(missing, may_block=False) is None
    assert adapter.find_missing(missing, may_block=True) == "program sh"
