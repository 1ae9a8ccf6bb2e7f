"""The rule: a snapshot, folded with every later event of its channel, equals the next snapshot.

A Hypothesis state machine does anything that the services, the scheduler and other applications may do, in any order,
and compares all channels after each step. `make chaos` runs 300 examples; more: `RULE_EXAMPLES=5000 make chaos
ARGS=tests/fold/test_rule.py`
"""

from __future__ import annotations

import os
from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.fold.all_operations import MODULES
from tests.fold.day import OPERATIONS, Day
from tests.harness.database import delete_rows

EXAMPLES, STEPS = 5, 50
MANY_EXAMPLES, MANY_STEPS = int(os.environ.get("RULE_EXAMPLES", "300")), 150

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]


class DayMachine(RuleBasedStateMachine):
    """One example: a day that begins with an empty database."""

    compared: ClassVar[Counter[str]] = Counter()
    done: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        delete_rows()
        self.day = Day()

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        self.day.step(lambda options: data.draw(st.sampled_from(options)))

    def teardown(self) -> None:
        self.compared.update(self.day.channels.compared)
        self.done.update(self.day.done)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("examples", "steps"), [(EXAMPLES, STEPS), pytest.param(MANY_EXAMPLES, MANY_STEPS, marks=pytest.mark.chaos)]
)
def test_snapshot_folded_with_every_later_event_equals_the_next_snapshot(examples: int, steps: int) -> None:
    assert MODULES
    run_state_machine_as_test(
        DayMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            # The few examples of a quick run are the same in each.
            derandomize=examples == EXAMPLES,
            # Shrinking takes minutes. The steps are in the note of the error.
            phases=[Phase.generate] if examples == EXAMPLES else [Phase.generate, Phase.shrink],
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    # Fewer would make the test too weak.
    assert min(DayMachine.compared[kind] for kind in ("workflow", "pool", "worker", "global", "summary")) > examples
    if examples >= 100:
        assert sorted(DayMachine.done) == sorted(OPERATIONS)
