"""`Next` and `Done`: what a stage returns to add steps behind itself, or to add none."""

from __future__ import annotations

import copy
import reprlib
from typing import Any, Final, Self

from orchestration.models.stage import MAX_STAGE_NAME_LENGTH
from orchestration.plan import InvalidDefinition, StagePlan
from orchestration.sdk.stage import Parallel, StageDefinition, plan_stages
from orchestration.services.validation import InvalidArgument, text

MAX_ADDED_STAGES: Final = 100
"""Stages that one stage may add. `each` is for more."""


class Next:
    """Steps to run behind the stage that returns this, before the later steps of its run.

    The steps are stored in the transaction that completes the stage: all of them, or none. If several stages of one
    step return `Next`, their first steps become one step, and so on. A name that the run has already gets a number:
    `agent_turn_2`.

    Args:
        steps: Stages, or `parallel(…)` and `when(…)`, in order.
        output: The output of the stage; JSON.

    Raises:
        InvalidDefinition: if there is no step, an item is none, there are more than `MAX_ADDED_STAGES` stages, or a
            name is too long.
    """

    def __init__(self, *steps: StageDefinition | Parallel, output: Any = None) -> None:
        if not steps:
            raise InvalidDefinition("Next() has no steps: expected at least one, or Done(output)")
        self.output = output
        self.stages: tuple[StagePlan, ...] = plan_stages(steps)
        if len(self.stages) > MAX_ADDED_STAGES:
            raise InvalidDefinition(
                f"Next(…) has {len(self.stages)} stages: expected at most {MAX_ADDED_STAGES}; each(…) runs one stage "
                "for every value of a list"
            )
        for stage in self.stages:
            _check_name(stage.name)

    def with_output(self, output: Any) -> Self:
        """Return the same steps with another output."""
        changed = copy.copy(self)
        changed.output = output
        return changed


def _check_name(name: str) -> None:
    """Check a name before the transaction that completes the stage, which could not store it.

    Raises:
        InvalidDefinition
    """
    try:
        text("name", name, max_length=MAX_STAGE_NAME_LENGTH, may_be_empty=False)
    except InvalidArgument as error:
        raise InvalidDefinition(f"Next(…) has a stage named {reprlib.repr(name)}: expected {error.expected}") from error


class Done:
    """The end of a loop of stages: no step is added. A stage may return the output itself, too.

    Args:
        output: The output of the stage; JSON.
    """

    def __init__(self, output: Any = None) -> None:
        self.output = output

    def with_output(self, output: Any) -> Self:
        """Return the end with another output."""
        return type(self)(output)
