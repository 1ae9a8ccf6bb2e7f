"""Streams of chunks of a stage that waits: for an answer, or for sub-runs."""

from __future__ import annotations

from tests.harness.client import connect
from tests.harness.engine import Engine
from tests.harness.engine_fixtures import Files
from tests.harness.waiting import eventually
from tests.worker.stored_chunks import evict_streams
from tests.worker.test_streams import PARTS, WHOLE, channel_of, closed, read_to_end, read_until

ANSWER = """
from orchestration import services
services.answer_wait(workflow_id=workflow_id, name="remark", answer="no remark", by="ada")
"""


async def test_stage_that_waits_for_a_sub_run_has_stored_its_stream(
    engine: Engine, shared_pool: str, files: Files
) -> None:
    workflow_id = engine.start("delegating", pool=shared_pool, parts=PARTS, child_pool=shared_pool, **files.params)
    channel = channel_of(workflow_id, "delegate")
    await eventually(
        lambda: engine.workflow(workflow_id)["stages"]["delegate"]["status"] == "waiting", what="the stage waits"
    )
    evict_streams(engine.server)
    async with connect(engine.server) as client:
        await client.subscribe(channel)
        assert await read_until(client, len(WHOLE.encode())) == WHOLE
        files.open_gate()
        assert await read_to_end(client) == ([], closed(WHOLE))


async def test_stream_before_a_question_remains_when_the_attempt_after_it_does_not_write_it(
    engine: Engine, shared_pool: str, files: Files
) -> None:
    workflow_id = engine.start("consulting", pool=shared_pool, parts=PARTS, **files.params)
    plan = channel_of(workflow_id, "consult", "plan")
    await eventually(
        lambda: engine.workflow(workflow_id)["stages"]["consult"]["status"] == "waiting", what="the stage asks"
    )
    evict_streams(engine.server)
    answer = channel_of(workflow_id, "consult", "answer")
    written = "attempt 2: no remark"
    async with connect(engine.server) as early, connect(engine.server) as late, connect(engine.server) as third:
        await early.subscribe(plan)
        assert await read_until(early, len(WHOLE.encode())) == WHOLE
        engine.execute(ANSWER, workflow_id=workflow_id)
        await third.subscribe(answer)
        assert await read_until(third, len(written)) == written
        # While the second attempt runs, and when it has completed.
        assert (await late.subscribe(plan))["data"]["attempt"] == 1
        assert await read_until(late, len(WHOLE.encode())) == WHOLE
        files.open_gate()
        for client in (early, late):
            assert await read_to_end(client) == ([], closed(WHOLE))
        await late.subscribe(answer)
        messages, end = await read_to_end(late)
        assert "".join(each["data"]["delta"] for each in messages) == written
        assert end == closed(written, attempt=2)
