"""The fold: what it ignores, what it marks as truncated, and what it costs."""

from __future__ import annotations

import tracemalloc

import msgspec
import pytest

from mahavishnu_client import messages
from mahavishnu_client.fold import decode_state, fold
from mahavishnu_client.state import Run, State
from realtime.events.types import EVENT_TYPES
from tests.fold.states import ClientEvent, event, overview, pool, pool_row, row, run, stage, worker

STATES: dict[str, State] = {
    "workflow:wf": run(stage(0, "running"), stage(1)),
    "pool:p": pool(worker()),
    "worker:w": worker(),
    "global": overview(row(), pools=(pool_row(),)),
    "summary": overview(row(), pools=(pool_row(),)),
}
RELEVANT = {
    "workflow:wf": event("workflow.cancelled", name="", reason="Unwanted"),
    "pool:p": event("pool.closed"),
    "worker:w": event("worker.removed"),
    "global": event("pool.closed"),
    "summary": event("pool.closed"),
}


@pytest.mark.parametrize("channel", STATES)
def test_event_that_is_unknown_or_only_a_test_changes_nothing(channel: str) -> None:
    state, relevant = STATES[channel], RELEVANT[channel]
    assert fold(channel, state, relevant) != state
    assert fold(channel, state, ClientEvent("workflow.reviewed", {"workflow_id": "wf"})) is state
    tested = msgspec.structs.replace(relevant.data, test=True)
    assert fold(channel, state, ClientEvent(relevant.name, tested)) is state
    assert fold(channel, state, ClientEvent(relevant.name, {"workflow_id": "wf", "test": True})) is state


@pytest.mark.parametrize("channel", ["workflow:another", "pool:another", "worker:another"])
def test_event_of_another_resource_changes_nothing(channel: str) -> None:
    state = STATES[next(each for each in STATES if each.startswith(channel.partition(":")[0]))]
    assert fold(channel, state, RELEVANT[next(each for each, other in STATES.items() if other is state)]) is state


@pytest.mark.parametrize("channel", STATES)
def test_nothing_becomes_of_a_state_that_does_not_exist(channel: str) -> None:
    assert fold(channel, None, RELEVANT[channel]) is None
    assert fold(channel, None, ClientEvent("workflow.started", {})) is None
    if ":" not in channel:
        assert fold(channel, None, event("pool.created")) is None, "the others are unknown"


def test_event_that_is_truncated_marks_the_state() -> None:
    before = STATES["workflow:wf"]
    folded = fold("workflow:wf", before, event("workflow.cancelled", name="", reason="Long…", truncated=True))
    assert isinstance(folded, Run)
    assert (folded.truncated, folded.error) == (True, "Long…")
    progress = event("workflow.stage_progress", stage_name="s0", progress=1.0, message="Long…", truncated=True)
    folded = fold("workflow:wf", before, progress)
    assert isinstance(folded, Run)
    assert folded.truncated


def test_event_of_which_only_the_result_of_a_stage_is_truncated_does_not_mark_the_state() -> None:
    counts = {"duration_ms": 1, "stages_completed": 1}
    completed = event("workflow.stage_completed", stage_name="s0", result={"output": "x…"}, truncated=True, **counts)
    folded = fold("workflow:wf", STATES["workflow:wf"], completed)
    assert isinstance(folded, Run)
    assert (folded.truncated, folded.stages_completed) == (False, 1)


def test_truncated_event_does_not_mark_an_overview_which_has_no_long_values() -> None:
    completed = event("workflow.completed", name="", result="x…", truncated=True)
    assert fold("summary", STATES["summary"], completed) == overview(pools=(pool_row(),))


@pytest.mark.parametrize("channel", STATES)
def test_event_of_another_version_of_the_server_marks_the_state(channel: str) -> None:
    name = RELEVANT[channel].name
    folded = fold(channel, STATES[channel], ClientEvent(name, {"shape": "another"}))
    assert folded == msgspec.structs.replace(STATES[channel], truncated=True)
    assert fold(channel, None, ClientEvent(name, {"shape": "another"})) is None


@pytest.mark.parametrize("channel", STATES)
def test_encoded_state_decodes_to_itself(channel: str) -> None:
    assert decode_state(channel, msgspec.json.encode(STATES[channel])) == STATES[channel]
    assert decode_state(channel, b"null") is None


def test_workers_of_a_pool_have_its_id() -> None:
    wire = msgspec.json.decode(msgspec.json.encode(STATES["pool:p"]))
    del wire["workers"][0]["pool_id"]
    assert decode_state("pool:p", msgspec.json.encode(wire)) == STATES["pool:p"]


def test_every_event_of_the_server_has_a_type() -> None:
    assert sorted(messages.EVENT_TYPES) == sorted(EVENT_TYPES)


def test_run_of_three_stages_takes_at_most_3_kib() -> None:
    text = msgspec.json.encode(run(*(stage(number, "completed") for number in range(3))))
    tracemalloc.start()
    try:
        runs = [decode_state("workflow:wf", text) for _ in range(100)]
        assert tracemalloc.get_traced_memory()[0] / len(runs) < 3072
    finally:
        tracemalloc.stop()
