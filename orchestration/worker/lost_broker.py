"""Sees to it that a worker notices that it has lost its broker.

When the broker is gone at the moment a message is acknowledged, Celery logs that and goes on: the message counts as
unacknowledged for ever, so with a prefetch of one the worker asks for no other, and so never sees that its connection
is lost. Here that state is looked for, and is what it is: a lost connection, after which the worker connects anew.
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.worker import state

CHECK_SECONDS = 1.0


class LostBrokerDetector(bootsteps.StartStopStep):
    """A step of the worker's consumer: looks once a second for messages that nobody works on nor acknowledged."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._timer: Any = None
        self._seen: frozenset[str] = frozenset()

    def start(self, parent: Any) -> None:
        self._seen = frozenset()
        self._timer = parent.timer.call_repeatedly(CHECK_SECONDS, self._check, (parent,))

    def stop(self, parent: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, parent: Any) -> None:
        """Raises: ConnectionResetError, which the worker's loop takes for what its connection would have raised."""
        forgotten = frozenset() if state.reserved_requests else _unacknowledged(parent)
        # Seen twice, because an acknowledgement may be on its way.
        if lost := forgotten & self._seen:
            self._seen = frozenset()
            raise ConnectionResetError(f"The broker was gone when {len(lost)} messages were acknowledged")
        self._seen = forgotten


def _unacknowledged(parent: Any) -> frozenset[str]:
    """The messages that the connection counts as taken. Only Kombu's own transports (Redis is one) count them here."""
    qos = getattr(getattr(parent.task_consumer, "channel", None), "qos", None)
    delivered, dirty = getattr(qos, "_delivered", None), getattr(qos, "_dirty", None)
    return frozenset(delivered or ()) - frozenset(dirty or ())
