"""Requests that are not answered yet, and the messages that wait to be sent."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from mahavishnu_client.errors import ClientError, ConnectionLost
from mahavishnu_client.protocol import encode_ping, encode_request

Answered = Callable[[msgspec.Raw | None, ClientError | None], None]


def set_answer(answer: asyncio.Future[msgspec.Raw], data: msgspec.Raw | None, error: ClientError | None) -> None:
    """Pass the answer to a request on to who waits for it."""
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    elif data is not None:
        answer.set_result(data)


class _PendingRequest:
    """A request that was not answered yet.

    Attributes:
        is_sent: Whether it was sent on this connection.
    """

    __slots__ = ("answered", "is_sent", "text")

    def __init__(self, text: bytes, answered: Answered) -> None:
        self.text = text
        self.answered = answered
        self.is_sent = False


class RequestTable:
    """The requests of one client, and its outgoing messages in order.

    Args:
        on_outgoing: Called when there is something to send.
    """

    def __init__(self, on_outgoing: Callable[[], None]) -> None:
        self._on_outgoing = on_outgoing
        self._pending: dict[str, _PendingRequest] = {}
        self._outgoing: deque[tuple[str, bytes]] = deque()
        self._numbers = itertools.count(1)

    @property
    def has_outgoing(self) -> bool:
        """Whether a message waits to be sent."""
        return bool(self._outgoing)

    def take_message(self) -> bytes | None:
        """Return the next message to send, and count it as sent; None if there is none."""
        if not self._outgoing:
            return None
        request_id, text = self._outgoing.popleft()
        if (request := self._pending.get(request_id)) is not None:
            request.is_sent = True
        return text

    def new_id(self, name: str) -> str:
        """Return an id that no other message of this client has."""
        return f"{name}_{next(self._numbers)}"

    def send(self, name: str, data: dict[str, Any], *, request_id: str | None = None) -> None:
        """Send a request whose answer is not awaited here."""
        request_id = self.new_id(name) if request_id is None else request_id
        self._outgoing.append((request_id, encode_request(name, data, request_id)))
        self._on_outgoing()

    def send_ping(self) -> None:
        """Send a ping before everything else."""
        request_id = self.new_id("ping")
        self._outgoing.appendleft((request_id, encode_ping(request_id)))
        self._on_outgoing()

    def add(self, name: str, data: dict[str, Any], answered: Answered, *, is_connected: bool) -> str:
        """Send a request on this connection or the next one, and return its id."""
        request_id = self.new_id(name)
        self._pending[request_id] = _PendingRequest(encode_request(name, data, request_id), answered)
        if is_connected:
            self._enqueue(request_id)
        return request_id

    def forget(self, request_id: str) -> bool:
        """Give a request up, and return whether it was sent."""
        request = self._pending.pop(request_id, None)
        return request is not None and request.is_sent

    def answer(self, request_id: str, data: msgspec.Raw | None, error: ClientError | None) -> bool:
        """Pass an answer on. Return False if no request has that id."""
        request = self._pending.pop(request_id, None)
        if request is not None:
            request.answered(data, error)
        return request is not None

    def on_disconnected(self) -> None:
        """Fail the requests that were sent, and keep the others for the next connection."""
        self._outgoing.clear()
        for request_id, request in list(self._pending.items()):
            if request.is_sent:
                error = ConnectionLost("The connection ended before the answer", maybe_done=True)
                self.answer(request_id, None, error)

    def send_pending(self) -> None:
        """Send every request that is not answered, unless it waits to be sent already."""
        queued = {request_id for request_id, _ in self._outgoing}
        for request_id in self._pending.keys() - queued:
            self._enqueue(request_id)

    def close(self, error: ClientError) -> None:
        """Fail every request."""
        for request_id in list(self._pending):
            self.answer(request_id, None, error)

    def _enqueue(self, request_id: str) -> None:
        self._outgoing.append((request_id, self._pending[request_id].text))
        self._on_outgoing()
