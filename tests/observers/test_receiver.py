"""Tests of the connection to an observed broker, with messages that no worker sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection, Exchange, Producer

from orchestration.observers.celery.broker import parse_url
from orchestration.observers.celery.events import Kind, WorkerEvent
from orchestration.observers.celery.receiver import Receiver
from tests.harness.valkey import Valkey
from tests.harness.waiting import wait_until

HEARTBEAT = json.dumps({"type": "worker-heartbeat", "hostname": "celery@box"})
RECEIVED = WorkerEvent(Kind.HEARTBEAT, "celery@box")


@pytest.fixture
def broker(valkey: Valkey) -> str:
    return parse_url(valkey.url)


@pytest.fixture
def receiver(broker: str) -> Iterator[Receiver]:
    receiver = Receiver(broker)
    receiver.connect()
    yield receiver
    receiver.close()


def publish(broker: str, body: str, **options: Any) -> None:
    with Connection(broker) as connection:
        exchange = Exchange("celeryev", type="fanout")
        Producer(connection, exchange).publish(
            body, routing_key="worker", content_type="application/json", content_encoding="utf-8", **options
        )


def receive(receiver: Receiver, count: int) -> list[object]:
    received: list[object] = []

    def is_received() -> bool:
        received.extend(receiver.poll(0.05))
        return len(received) >= count

    wait_until(is_received, timeout_seconds=30, what="the messages")
    return received


def test_compressed_message_is_dropped_unread(broker: str, receiver: Receiver) -> None:
    publish(broker, HEARTBEAT, compression="zlib")
    # Kombu fails to decompress it, and with an error of connections.
    publish(broker, HEARTBEAT, headers={"compression": "bzip2"})
    publish(broker, HEARTBEAT)
    assert receive(receiver, 3) == [None, None, RECEIVED]
