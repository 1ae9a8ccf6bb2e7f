"""Detects that a worker has lost its connection to the broker.

If the broker is down at the moment a message is acknowledged, Celery logs the error and continues. The message stays
unacknowledged. With a prefetch of one the worker then requests no other message, so it never uses its connection again
and never detects the loss. This module detects that state and raises a connection error, after which the worker
reconnects.
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.worker import state

CHECK_SECONDS = 1.0


class LostBrokerDetector(bootsteps.StartStopStep):
    """A step of the worker's consumer. Once a second it checks for messages that are neither running nor acknowledged.

    It reads private attributes of Kombu's virtual transports; Redis is one. Other transports have none and are skipped.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._timer: Any = None
        self._suspects: frozenset[str] = frozenset()

    def start(self, parent: Any) -> None:
        """Start the checks. Called by Celery when the worker has connected."""
        self._suspects = frozenset()
        self._timer = parent.timer.call_repeatedly(CHECK_SECONDS, self._check, (parent,))

    def stop(self, parent: Any) -> None:
        """Stop the checks. Called by Celery when the worker disconnects."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, parent: Any) -> None:
        """Check once.

        Raises:
            ConnectionResetError: if messages are lost; the worker's loop handles it as a lost connection.
        """
        unacknowledged = frozenset() if state.reserved_requests else _unacknowledged(parent)
        # Two checks in a row, because an acknowledgement may be under way.
        if lost := unacknowledged & self._suspects:
            self._suspects = frozenset()
            raise ConnectionResetError(f"The broker was unavailable when {len(lost)} messages were acknowledged")
        self._suspects = unacknowledged


def _unacknowledged(parent: Any) -> frozenset[str]:
    """Return the delivery tags that the connection counts as delivered and not yet acknowledged."""
    qos = getattr(getattr(parent.task_consumer, "channel", None), "qos", None)
    delivered, dirty = getattr(qos, "_delivered", None), getattr(qos, "_dirty", None)
    return frozenset(delivered or ()) - frozenset(dirty or ())
