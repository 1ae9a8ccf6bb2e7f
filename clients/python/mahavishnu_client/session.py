"""What a client keeps over all its connections, and what each message means for it. No I/O, and no clock.

The asyncio part (`mahavishnu_client.connection`) passes every message to `Session.receive`, sends what `take_message`
returns, and reports the beginning and the end of each connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from mahavishnu_client import protocol
from mahavishnu_client.callbacks import Callbacks
from mahavishnu_client.chunk_table import ChunkTable
from mahavishnu_client.errors import AuthenticationError, ClientError, ProtocolError, RequestFailed
from mahavishnu_client.events import UNDECODABLE, Message, Position, decode_event, decode_other
from mahavishnu_client.positions import handled, newest
from mahavishnu_client.request_table import RequestTable
from mahavishnu_client.sinks import Sink
from mahavishnu_client.subscription import Subscription

RESEND_AFTER_MS = 500
"""Pause after a message was discarded, if the server gives no time."""


class Session:
    """Channels, positions and requests of one client.

    Args:
        callbacks: What it calls.

    Attributes:
        requests: The requests that are not answered, and what is to be sent.
        chunks: The streams of chunks that it reads.
        welcome: The welcome of this connection; None while there is none.
        is_live: Whether every channel that was subscribed at the welcome is settled.
        retry_after_ms: The time to wait before the next connection, if the server gave one.
    """

    def __init__(self, callbacks: Callbacks) -> None:
        self.requests = RequestTable(callbacks.on_outgoing)
        self.chunks = ChunkTable(self.requests, callbacks.later)
        self.welcome: protocol.Welcome | None = None
        self.is_live = False
        self.retry_after_ms: int | None = None
        self._callbacks = callbacks
        self._subscriptions: dict[str, Subscription] = {}
        self._unsettled: set[str] = set()
        self._subscribes: dict[str, Subscription] = {}
        self._delivered = Position(0, "")
        self._last_position: Position | None = None
        self._connection_number = 0
        self._is_resending = False

    # --- The connection ----------------------------------------------------------------------------------------

    def on_connected(self) -> None:
        """Begin a connection. Nothing is sent before the welcome."""
        self._connection_number += 1
        self.retry_after_ms = None
        self._is_resending = False

    def on_disconnected(self, as_of: float) -> None:
        """End the connection: fail the requests that were sent, and keep the others for the next one.

        Args:
            as_of: When the last message came, in seconds of the machine's clock.
        """
        self.welcome = None
        self.is_live = False
        self._connection_number += 1
        self._subscribes.clear()
        for subscription in self._subscriptions.values():
            subscription.on_disconnected(as_of)
        self.chunks.on_disconnected()
        self.requests.on_disconnected()

    def wake(self) -> None:
        """Wake everything that waits for events and states, to look at the state of the connection."""
        for subscription in self._subscriptions.values():
            subscription.wake()

    def close(self, error: ClientError) -> None:
        """End every iterator and request. The position stays."""
        self._last_position = self.position
        for subscription in self._subscriptions.values():
            subscription.fail(error)
        self._subscriptions.clear()
        self.requests.close(error)
        self.chunks.close(error)

    # --- Channels ----------------------------------------------------------------------------------------------

    @property
    def head(self) -> Position | None:
        """The newest position of the log that is known; None before the first connection."""
        return newest(self._sinks(), self._delivered)

    @property
    def position(self) -> Position | None:
        """The position up to which the callers have handled every event of all channels; None before the first."""
        return self._last_position or handled(self._sinks(), self._delivered) or self.head

    def _sinks(self) -> Iterator[Sink]:
        return (sink for subscription in self._subscriptions.values() for sink in subscription.sinks)

    def attach(self, channel: str, sink: Sink) -> Subscription:
        """Deliver the events of a channel to `sink`, from its position on."""
        if (subscription := self._subscriptions.get(channel)) is None:
            subscription = self._subscriptions[channel] = Subscription(channel)
        subscription.sinks.append(sink)
        self.subscribe(subscription)
        return subscription

    def detach(self, channel: str, sink: Sink) -> None:
        """End the delivery to `sink`, and the subscription if it was the last one."""
        subscription = self._subscriptions.get(channel)
        if subscription is None or sink not in subscription.sinks:
            return
        subscription.sinks.remove(sink)
        if not subscription.sinks:
            del self._subscriptions[channel]
        self.unsubscribe_unused(subscription)

    def subscribe(self, subscription: Subscription) -> None:
        """Send a `subscribe` if sinks of the channel need one and none is on its way."""
        if self.welcome is None or subscription.request_id is not None:
            return
        for sink in subscription.sinks:
            if sink.seq is None and not sink.needs_snapshot:
                sink.start(self.welcome.seq, self.welcome.epoch)
        request_id = self.requests.new_id("subscribe")
        if (data := subscription.next_request(self.welcome.epoch, request_id)) is not None:
            self._subscribes[request_id] = subscription
            self.requests.send("subscribe", data, request_id=request_id)

    def resubscribe(self, channel: str) -> None:
        """Send a `subscribe` if sinks of this channel need one."""
        if (subscription := self._subscriptions.get(channel)) is not None:
            self.subscribe(subscription)

    def missed_count(self, channel: str) -> int:
        """Return how many missed events of a channel are still to come."""
        subscription = self._subscriptions.get(channel)
        return 0 if subscription is None else subscription.missed

    def unsubscribe_unused(self, subscription: Subscription) -> None:
        """End the subscription if no sink takes its events: all of them are full, or there is none."""
        if subscription.is_subscribed and all(sink.is_full for sink in subscription.sinks):
            subscription.is_subscribed = False
            subscription.missed = 0
            self.requests.send("unsubscribe", {"channel": subscription.channel})
            self._settle(subscription)

    # --- Messages of the server --------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Handle one message.

        Raises:
            ProtocolError: if it is none of this protocol.
            AuthenticationError: if the server does not accept the token.
        """
        # Nearly every message is an event of a known name, and this is the only code that runs for it.
        try:
            event = decode_event(data)
        except UNDECODABLE:
            message = decode_other(data)
            if isinstance(message, Message):
                try:
                    self._receive_other(message)
                except msgspec.DecodeError as error:
                    raise ProtocolError(f"The server sent an invalid {message.event!r}: {error}") from None
                return
            event = message
        subscription = self._subscriptions.get(event.room)
        if subscription is not None:
            for sink in subscription.sinks:
                sink.push(event, len(data))
            if event.replayed and subscription.missed:
                subscription.missed -= 1
                if not subscription.missed:
                    self._settle(subscription)

    def _receive_other(self, message: Message) -> None:
        if message.type == "response":
            if (subscription := self._subscribes.pop(message.correlation_id or "", None)) is not None:
                self._on_subscribed(subscription, message)
            else:
                self.requests.answer(message.correlation_id or "", message.data, None)
        elif message.type == "error":
            self._on_error(message)
        elif message.type == "pong" or message.event == "session.position":
            self._on_position(protocol.decode_position(message.data))
        elif message.event == "session.created":
            self._on_welcome(protocol.decode_welcome(message.data))
        elif message.event == "session.draining":
            self.retry_after_ms = protocol.decode_draining(message.data).retry_after_ms
            self._callbacks.on_draining()
        elif message.event == "session.expiring":
            self._callbacks.on_expiring()
        elif message.event == "session.unsubscribed":
            self._on_unsubscribed(protocol.decode_unsubscribed(message.data))
        else:
            self.chunks.receive(message)

    def _on_welcome(self, welcome: protocol.Welcome) -> None:
        self.welcome = welcome
        self._callbacks.on_welcome()
        known_seq = self._delivered.seq if self._delivered.epoch == welcome.epoch else 0
        self._delivered = Position(max(welcome.seq, known_seq), welcome.epoch)
        self._unsettled = {name for name, item in self._subscriptions.items() if not all(s.is_full for s in item.sinks)}
        for subscription in list(self._subscriptions.values()):
            subscription.on_connected(welcome.seq, welcome.epoch)
            self.subscribe(subscription)
        self.requests.send_pending()
        self.chunks.on_connected()
        self._check_live()

    def _on_subscribed(self, subscription: Subscription, message: Message) -> None:
        if subscription.request_id != message.correlation_id:
            return
        subscription.on_answer(protocol.decode_subscribe_answer(message.data))
        if subscription.sinks or subscription.channel not in self._subscriptions:
            # The last sink may have left before this answer.
            self.unsubscribe_unused(subscription)
        self.subscribe(subscription)
        if subscription.is_settled:
            self._settle(subscription)

    def _on_unsubscribed(self, ended: protocol.Unsubscribed) -> None:
        self.chunks.end(ended.channel, ended.error)
        if (subscription := self._subscriptions.pop(ended.channel, None)) is not None:
            # No answer to a `subscribe` on its way belongs to it any longer, nor to one that follows.
            self._subscribes.pop(subscription.request_id or "", None)
            subscription.fail(ended.error)
            self._settle(subscription)

    def _settle(self, subscription: Subscription) -> None:
        self._unsettled.discard(subscription.channel)
        subscription.wake()
        self._check_live()

    def _check_live(self) -> None:
        if not self.is_live and self.welcome is not None and not self._unsettled:
            self.is_live = True
            self._callbacks.on_live()

    def _on_position(self, position: protocol.DeliveredPosition) -> None:
        if position.seq is None or self.welcome is None or position.epoch != self.welcome.epoch:
            return
        self._delivered = Position(max(position.seq, self._delivered.seq), position.epoch)
        for subscription in self._subscriptions.values():
            subscription.move_to(position.seq)

    def _on_error(self, message: Message) -> None:
        if isinstance(error := protocol.error_of(message), AuthenticationError):
            raise error
        request_id = message.correlation_id or ""
        if (subscription := self._subscribes.pop(request_id, None)) is not None:
            if subscription.request_id == request_id:
                self._on_subscribe_failed(subscription, error)
        elif not self.requests.answer(request_id, None, error) and not request_id:
            self._on_connection_error(error)

    def _on_subscribe_failed(self, subscription: Subscription, error: RequestFailed) -> None:
        pause_seconds = subscription.on_failure(error)
        if pause_seconds is not None:
            subscription.wake()
            self._soon(pause_seconds, partial(self.resubscribe, subscription.channel))
            return
        self._subscriptions.pop(subscription.channel, None)
        self._settle(subscription)

    def _soon(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something later, if this connection lasts."""
        of = self._connection_number
        self._callbacks.later(seconds, lambda: action() if of == self._connection_number else None)

    def _on_connection_error(self, error: RequestFailed) -> None:
        """Handle an error that answers no request: the connection ends, or a message was discarded unread."""
        if error.retry_after_ms is not None:
            self.retry_after_ms = error.retry_after_ms
        if error.code != "RATE_LIMIT_EXCEEDED" or self._is_resending:
            return
        # It is not known which message: after the time, all that are not answered are sent again. That is harmless.
        self._is_resending = True
        self._soon((error.retry_after_ms or RESEND_AFTER_MS) / 1000, self._resend)

    def _resend(self) -> None:
        self._is_resending = False
        self.retry_after_ms = None
        self._subscribes.clear()
        for subscription in self._subscriptions.values():
            if subscription.request_id is not None:
                subscription.request_id = None
                self.subscribe(subscription)
        self.requests.send_pending()
