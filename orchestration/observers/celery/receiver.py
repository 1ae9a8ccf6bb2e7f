"""The connection of an observer to the broker of a Celery application.

It consumes the events of the workers in its own queue, as `celery events` and Flower do, and may send three commands of
Celery's remote control: `heartbeat`, `active_queues` and `active`, and `enable_events` if that is allowed. It takes
no task and changes no queue of the application.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.exceptions import KombuError
from kombu.message import Message

from orchestration.log_throttle import LogThrottle
from orchestration.observers.celery.events import Event, WorkerReply, decode, read_events, read_reply

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS: Final = 5.0
REPLY_EXPIRES_SECONDS: Final = 10.0
"""How long workers may still answer a command."""

MAX_MESSAGES_PER_POLL: Final = 500
MAX_ERRORS_IN_A_ROW: Final = 1000
"""Messages in a row that the broker's client cannot read, after which the observer connects again."""

QUEUE_TTL_SECONDS: Final = 5.0
QUEUE_EXPIRES_SECONDS: Final = 60.0
"""As Celery's `event_queue_ttl` and `event_queue_expires`, for brokers that support them."""

# Redis has no topics: Celery's events and commands are broadcast there.
_FANOUT_DRIVERS: Final = frozenset({"redis", "gcpubsub"})

_unreadable = LogThrottle(logger)


class _UncompressedMessage(Message):
    """A message that is never decompressed.

    A small one could fill the memory. Celery compresses neither events nor replies.
    """

    def __init__(self, body: object = None, *, headers: object = None, **fields: Any) -> None:
        if isinstance(headers, dict) and headers.get("compression"):
            body, headers = None, {}
        super().__init__(body, headers=headers, **fields)


class Receiver:
    """Receives events and replies.

    Args:
        url: The broker, as in Celery's `broker_url`.
        transport_options: As Celery's `broker_transport_options`.
        event_exchange, control_exchange: As Celery's settings of these names.
    """

    def __init__(
        self,
        url: str,
        *,
        transport_options: Mapping[str, Any] | None = None,
        event_exchange: str = "celeryev",
        control_exchange: str = "celery",
    ) -> None:
        self._url = url
        self._options = dict(transport_options or {})
        self._event_exchange = event_exchange
        self._control_exchange = control_exchange
        self._id = str(uuid.uuid4())
        self._connection: Any = None
        self._consumer: Any = None
        self._producer: Any = None
        self._received: list[Event | WorkerReply | None] = []
        self._tickets: dict[str, str] = {}
        self._errors_in_a_row = 0

    @property
    def address(self) -> str:
        """The URL of the broker without its password."""
        return str(Connection(self._url).as_uri())

    def connect(self) -> None:
        """Connect and subscribe.

        Raises:
            ConnectionError: if that fails.
        """
        self.close()
        try:
            self._connection = Connection(
                self._url, connect_timeout=CONNECT_TIMEOUT_SECONDS, transport_options=self._options
            )
            self._connection.connect()
            channel = self._connection.channel()
            channel.Message = type("Message", (channel.Message, _UncompressedMessage), {})
            self._subscribe(channel)
            # On Redis, the subscription is sent with the first read.
            self._drain(0.01)
        except Exception as error:
            self.close()
            raise ConnectionError(_reason(error)) from error

    def poll(self, seconds: float) -> Sequence[Event | WorkerReply | None]:
        """Return what arrives within this time, or earlier if there is much. None stands for an unusable message.

        Raises:
            ConnectionError: if the connection is lost.
        """
        deadline = time.monotonic() + seconds
        messages = 0
        while messages < MAX_MESSAGES_PER_POLL and (rest := deadline - time.monotonic()) > 0:
            self._drain(rest)
            messages += 1
        received, self._received = self._received, []
        return received

    def send_command(self, command: str, *, replies: bool = False) -> None:
        """Send a command of Celery's remote control to all workers.

        Raises:
            ConnectionError: if that fails.
        """
        message: dict[str, Any] = {"method": command, "arguments": {}, "destination": None}
        message |= {"pattern": None, "matcher": None}
        if replies:
            ticket = str(uuid.uuid4())
            # A later question replaces an earlier one.
            self._tickets = {ticket: command, **{key: name for key, name in self._tickets.items() if name != command}}
            message |= {"ticket": ticket}
            message |= {"reply_to": {"exchange": f"reply.{self._control_exchange}.pidbox", "routing_key": self._id}}
        exchange = _exchange(f"{self._control_exchange}.pidbox", "fanout")
        headers = {"clock": 1, "expires": time.time() + REPLY_EXPIRES_SECONDS}
        self._guarded(
            lambda: self._producer.publish(
                message, exchange=exchange.name, declare=[exchange], headers=headers, serializer="json", retry=False
            )
        )

    def close(self) -> None:
        """Close the connection, and delete its queues."""
        consumer, connection = self._consumer, self._connection
        self._consumer = self._connection = self._producer = None
        self._errors_in_a_row = 0
        # The broker may be unavailable.
        with suppress(Exception):
            if consumer is not None:
                consumer.cancel()
        with suppress(Exception):
            if connection is not None:
                connection.release()

    def _subscribe(self, channel: Any) -> None:
        is_fanout = self._connection.transport.driver_type in _FANOUT_DRIVERS
        # Celery declares this exchange as durable, and the broker refuses another declaration.
        events = Exchange(self._event_exchange, type="fanout" if is_fanout else "topic")
        replies = _exchange(f"reply.{self._control_exchange}.pidbox", "direct")
        queue: dict[str, Any] = {"durable": False, "auto_delete": True, "expires": QUEUE_EXPIRES_SECONDS}
        event_queue = Queue(
            f"{self._event_exchange}.{self._id}", events, routing_key="#", message_ttl=QUEUE_TTL_SECONDS, **queue
        )
        reply_queue = Queue(f"{self._id}.{replies.name}", replies, routing_key=self._id, **queue)
        self._consumer = Consumer(
            channel, [event_queue, reply_queue], on_message=self._on_message, no_ack=True, accept=["json"]
        )
        self._consumer.consume()
        self._producer = Producer(channel, auto_declare=False)

    def _on_message(self, message: Any) -> None:
        value = decode(message.body) if message.content_type == "application/json" else None
        self._errors_in_a_row = 0
        if isinstance(message.headers, dict) and "ticket" in message.headers:
            command = self._tickets.get(str(message.headers["ticket"]))
            self._received.append(None if command is None else read_reply(value, command=command))
        else:
            self._received.extend(read_events(value))

    def _drain(self, seconds: float) -> None:
        try:
            self._connection.drain_events(timeout=seconds)
        except TimeoutError:
            return
        except Exception as error:
            is_lost = isinstance(error, (*self._connection.connection_errors, *self._connection.channel_errors))
            # For Kombu, a `KeyError` is one of the channel: one forged message a second would blind the observer.
            if is_lost and not isinstance(error, LookupError | TypeError | ValueError):
                raise ConnectionError(_reason(error)) from error
            # A message that even the broker's client cannot read. It has been taken from the connection.
            self._errors_in_a_row += 1
            self._received.append(None)
            _unreadable.log("Unreadable message of an observed broker dropped: %s", _reason(error))
            if self._errors_in_a_row >= MAX_ERRORS_IN_A_ROW:
                raise ConnectionError(_reason(error)) from error

    def _guarded(self, call: Callable[[], object]) -> None:
        try:
            call()
        except (*self._connection.connection_errors, *self._connection.channel_errors, KombuError, OSError) as error:
            raise ConnectionError(_reason(error)) from error


def _exchange(name: str, kind: str) -> Exchange:
    """Return an exchange of the remote control, declared as Celery does."""
    return Exchange(name, type=kind, durable=False, delivery_mode="transient")


def _reason(error: Exception) -> str:
    """Return the error on one line. It may repeat what a stranger has sent."""
    return f"{type(error).__name__}: {str(error)[:200]!r}"
