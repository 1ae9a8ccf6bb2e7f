"""The streams that are stored when their stage begins to wait."""

from __future__ import annotations

import pytest

from orchestration import services
from orchestration.models import Stage, StreamContent
from orchestration.services import WrittenStream
from realtime.queries.stream_states import StoredStream, read_stage_streams, read_stored_bytes
from tests.services.broker_worker import BrokerWorker
from tests.services.sub_run_trees import start_children

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey", "empty_tree_queues"),
]


def test_streams_of_a_stage_that_waits_are_stored() -> None:
    written = WrittenStream(name="log", content_type="text", content=b"ab", length=2, sha256="0")
    start_children(1, streams=[written])
    fan = Stage.objects.get(name="fan")
    stored = StoredStream(attempt=1, content_type="text", stored_bytes=2, length=2, sha256="0")
    for status in ("waiting", "completed"):
        streams = read_stage_streams([fan.pk])[fan.pk]
        assert (streams.status, streams.stored) == (status, {"log": stored})
        assert read_stored_bytes(fan.pk, "log", 1, 1, 10) == b"b"
        BrokerWorker(pool_id="children", name="children").run_next()


def test_stored_streams_are_deleted_when_the_stage_begins_anew() -> None:
    written = WrittenStream(name="log", content_type="text", content=b"ab", length=2, sha256="0")
    start_children(1, streams=[written])
    BrokerWorker(pool_id="children", name="children").run_next()
    services.cancel_workflow(workflow_id="parent")
    services.retry_run(workflow_id="parent")
    assert StreamContent.objects.count() == 1
    services.cancel_workflow(workflow_id="parent")
    services.retry_run(workflow_id="parent", from_stage="fan")
    assert StreamContent.objects.count() == 0
