"""The streams of chunks that a client reads. Each is subscribed to again after a reconnect, from its offset on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from mahavishnu_client.chunks import ChunkQueue, ReceivedChunk, StreamClosed, StreamGap, StreamReset
from mahavishnu_client.errors import ClientError, ConnectionLost, RequestFailed
from mahavishnu_client.events import Message
from mahavishnu_client.request_table import RequestTable

RETRY_SECONDS: Final = 1.0
"""Pause before a `subscribe` is repeated, if the server gives no time."""


class _StreamAnswer(msgspec.Struct, frozen=True):
    attempt: int
    offset: int


_decode_answer = msgspec.json.Decoder(_StreamAnswer).decode
_decoders: Final[dict[str, Callable[[msgspec.Raw], Any]]] = {
    "stream.chunk": msgspec.json.Decoder(ReceivedChunk).decode,
    "stream.gap": msgspec.json.Decoder(StreamGap).decode,
    "stream.reset": msgspec.json.Decoder(StreamReset).decode,
    "stream.closed": msgspec.json.Decoder(StreamClosed).decode,
}


class ChunkTable:
    """The readers of streams, by channel. Those of one channel share its subscription.

    Args:
        requests: Where to send requests.
        later: Calls a function after some seconds.
    """

    def __init__(self, requests: RequestTable, later: Callable[[float, Callable[[], None]], object]) -> None:
        self._requests = requests
        self._later = later
        self._queues: dict[str, list[ChunkQueue]] = {}
        self._is_connected = False

    def attach(self, channel: str, queue: ChunkQueue) -> None:
        """Deliver a stream to a queue, from its offset on."""
        self._queues.setdefault(channel, []).append(queue)
        self.subscribe(channel)

    def detach(self, channel: str, queue: ChunkQueue) -> None:
        """End the delivery to a queue, and the subscription with the last one."""
        queues = self._queues.get(channel, [])
        if queue in queues:
            queues.remove(queue)
            if not queues:
                del self._queues[channel]
                if self._is_connected and queue.end is None:
                    self._requests.send("unsubscribe", {"channel": channel})

    def subscribe(self, channel: str) -> None:
        """Subscribe again for the queues that are not at their end, from the first of their offsets on."""
        waiting = [queue for queue in self._queues.get(channel, []) if queue.end is None and not queue.is_full]
        if not waiting or not self._is_connected:
            return
        attempt = min((queue.attempt for queue in waiting if queue.attempt is not None), default=None)
        same = [queue for queue in waiting if queue.attempt in (attempt, None)]
        data = {"channel": channel, "offset": min(queue.offset for queue in same), "attempt": attempt}
        self._requests.add("subscribe", data, partial(self._on_answer, channel), is_connected=True)

    def on_connected(self) -> None:
        """Subscribe to every stream on a new connection."""
        self._is_connected = True
        for channel in list(self._queues):
            self.subscribe(channel)

    def on_disconnected(self) -> None:
        """Wait for the next connection."""
        self._is_connected = False

    def receive(self, message: Message) -> None:
        """Handle a message of a stream.

        Raises:
            msgspec.DecodeError: if its data is invalid.
        """
        decode = _decoders.get(message.event)
        if decode is None or message.room is None:
            return
        data = decode(message.data)
        for queue in self._queues.get(message.room, []):
            if isinstance(data, ReceivedChunk):
                queue.push(data.decoded())
            elif isinstance(data, StreamGap):
                queue.lose(data)
            elif isinstance(data, StreamReset):
                queue.restart(data.attempt)
            else:
                queue.finish(data)

    def end(self, channel: str, error: ClientError) -> None:
        """End the readers of a channel with an error."""
        for queue in self._queues.pop(channel, []):
            queue.fail(error)

    def close(self, error: ClientError) -> None:
        """End every reader."""
        for channel in list(self._queues):
            self.end(channel, error)

    def _on_answer(self, channel: str, data: msgspec.Raw | None, error: ClientError | None) -> None:
        if data is not None:
            answer = _decode_answer(data)
            queues = self._queues.get(channel, [])
            for queue in queues:
                queue.open(answer.attempt, answer.offset)
            if any(queue.needs_answer for queue in queues):
                self.subscribe(channel)
        elif isinstance(error, RequestFailed) and error.retryable:
            seconds = RETRY_SECONDS if error.retry_after_ms is None else error.retry_after_ms / 1000
            self._later(seconds, partial(self.subscribe, channel))
        elif error is not None and not isinstance(error, ConnectionLost):
            self.end(channel, error)
