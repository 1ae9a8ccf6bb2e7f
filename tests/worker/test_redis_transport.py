"""The connection of a worker to its Redis, and the processes that the worker forks."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu import Consumer, Queue

from mahavishnu_site.celery_config import broker_url
from orchestration.worker.redis_transport import BrokerConnection
from tests.harness.valkey import Valkey

pytestmark = pytest.mark.django_db

TIMEOUT_SECONDS = 30

CLOSED = -1
"""The number of the file of a closed socket."""


@pytest.fixture
def waiting_channel(start_valkey: Callable[[], Valkey]) -> Iterator[Any]:
    """Return a channel that waits for the next message, as that of a worker process does."""
    with BrokerConnection(broker_url(start_valkey().url)) as connection:
        channel = connection.default_channel
        Consumer(channel, queues=[Queue("waiting")]).consume()
        connection.transport.cycle.on_poll_start()
        yield channel


def test_forked_process_keeps_no_copy_of_the_socket_that_waits_for_messages(waiting_channel: Any) -> None:
    socket = waiting_channel.client.connection._sock
    child = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(socket.fileno() != CLOSED))
    child.start()
    child.join(TIMEOUT_SECONDS)
    assert child.exitcode == 0
    # The parent still waits on it.
    assert socket.fileno() != CLOSED
    waiting_channel._put("waiting", {})
    assert socket.recv(1) == b"*"
