"""Celery's consumer of a worker process, which survives what the broker delivers and answers.

A message that is not ours is dropped. An error of the broker that closes no connection, such as `READONLY` after a
failover, is a reason to reconnect later; Celery ends the worker for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

from orchestration.worker.message import InvalidMessage, build_body, build_headers, log_dropped, read_message

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 1.0
"""The pause before a worker reconnects to a broker that answered with an error. It doubles with each further error."""

MAX_PAUSE_SECONDS: Final = 10.0
"""The longest pause, and after how long without an error the next pause is the first."""

_POLL_SECONDS: Final = 0.2

# Workers exchange neither events nor commands. Each would be one more channel whose messages anyone could forge.
_NO_PEERS: Final[Mapping[str, bool]] = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}


class StageConsumer(Consumer):
    """A consumer that accepts only messages that wake a worker for an attempt at a stage."""

    def __init__(self, *args: Any, worker_options: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, worker_options={**(worker_options or {}), **_NO_PEERS}, **kwargs)
        self._errors_in_a_row = 0
        self._failed_at = float("-inf")

    def create_task_handler(self) -> Callable[[Any], None]:
        """Return the callback for each message: drop it, or pass it on to Celery without anything but its arguments."""
        handle = super().create_task_handler()

        def on_message(message: Any) -> None:
            try:
                rebuild(message)
            except InvalidMessage as error:
                log_dropped(error, queue=str((message.delivery_info or {}).get("routing_key", "")))
                message.reject_log_error(logger, self.connection_errors + self.channel_errors)
            else:
                handle(message)

        return on_message

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Pause if the broker refused the connection with an error. Called by Celery before it connects again."""
        super().on_connection_error_before_connected(exc)
        self._pause_after(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Pause if the broker answered with an error. Called by Celery before it connects again."""
        super().on_connection_error_after_connected(exc)
        self._pause_after(exc)

    def _pause_after(self, error: Exception) -> None:
        # Celery itself waits between attempts to connect to a broker that cannot be reached.
        if isinstance(error, self.connection_errors):
            return
        now = time.monotonic()
        self._errors_in_a_row = self._errors_in_a_row + 1 if now - self._failed_at < 2 * MAX_PAUSE_SECONDS else 1
        pause_seconds = min(FIRST_PAUSE_SECONDS * 2.0 ** min(self._errors_in_a_row - 1, 8), MAX_PAUSE_SECONDS)
        # The representation of an error of redis-py lacks its text.
        logger.error("The broker answered with an error (%s); reconnecting in %g s", error, pause_seconds)
        deadline = now + pause_seconds
        while time.monotonic() < deadline:
            # Raises SystemExit if a shutdown was requested.
            maybe_shutdown()
            time.sleep(_POLL_SECONDS)
        self._failed_at = time.monotonic()


def rebuild(message: Any) -> None:
    """Replace the headers and the body of a message by those of a new message that says the same.

    Raises:
        InvalidMessage: if it does not say this.
    """
    attempt = read_message(
        headers=message.headers,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        body=message.body,
    )
    message.headers = build_headers(attempt)
    message.body = build_body(attempt)
