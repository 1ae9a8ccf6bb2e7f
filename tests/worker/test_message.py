"""What a worker reads of a message that another transport than Redis delivers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kombu
import pytest

from orchestration.worker.consumer import rebuild
from orchestration.worker.message import MAX_MESSAGE_BYTES, Flaw, InvalidMessage
from tests.worker.broker_messages import CALL, HEADERS


@pytest.fixture
def memory_queue() -> Iterator[tuple[kombu.Producer, kombu.Queue]]:
    """Return a producer and a queue of another transport than Redis."""
    with kombu.Connection("memory://") as connection, connection.channel() as channel:
        queue = kombu.Queue("garbage", channel=channel)
        queue.declare()
        yield kombu.Producer(channel, routing_key=queue.name), queue


def test_message_of_another_transport_is_rebuilt_from_its_arguments(
    memory_queue: tuple[kombu.Producer, kombu.Queue],
) -> None:
    producer, queue = memory_queue
    forged = {**HEADERS, "eta": "9999-01-01T00:00:00", "timelimit": [1, 1], "shadow": "forged"}
    producer.publish(CALL, headers=forged, serializer="json")
    received = queue.get()
    rebuild(received)
    assert received.headers["argsrepr"] == f"({2**62}, 1)"
    assert not {"shadow"} & received.headers.keys()
    assert (received.headers["eta"], received.headers["timelimit"]) == (None, [None, None])
    assert received.payload == CALL


@pytest.mark.parametrize(
    ("body", "options", "flaw"),
    [
        (CALL, {"headers": {**HEADERS, "task": "os.system"}}, Flaw.OTHER_TASK),
        (CALL, {"headers": HEADERS, "serializer": "pickle"}, Flaw.NOT_CELERY),
        (b"hello", {"headers": HEADERS}, Flaw.NOT_CELERY),
        ({"task": "os.system", "args": []}, {}, Flaw.OTHER_TASK),
        ([["1", 1], {}, {}], {"headers": HEADERS}, Flaw.OTHER_ARGUMENTS),
        (["x" * MAX_MESSAGE_BYTES], {"headers": HEADERS}, Flaw.TOO_LARGE),
    ],
)
def test_message_of_another_transport_is_refused(
    memory_queue: tuple[kombu.Producer, kombu.Queue], body: object, options: dict[str, Any], flaw: Flaw
) -> None:
    producer, queue = memory_queue
    producer.publish(body, **options)
    with pytest.raises(InvalidMessage) as refused:
        rebuild(queue.get(accept=["json", "pickle"]))
    assert refused.value.flaw is flaw
