"""One channel of the connection, which any number of iterators and states share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UnsetType

from mahavishnu_client.errors import ClientError, ProtocolError, RequestFailed
from mahavishnu_client.protocol import SubscribeAnswer
from mahavishnu_client.sinks import Sink

FIRST_RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 10.0
"""Pauses before a `subscribe` is repeated, if the server gives no time: doubled from the first to the longest."""

_Served = tuple[Sequence[Sink], int | None, str]
_NOTHING: _Served = ((), None, "")
"""What the `subscribe` on its way serves: sinks, and the position and log that it resumes."""


class Subscription:
    """A channel and its sinks. Each sink has its own position, and skips what it has.

    A `subscribe` serves the sinks of one log that are behind, from the oldest of their positions on. Sinks that an
    answer leaves without a start need another round: those that were added later, are of another log, or whose
    position lies above one that could not be resumed.

    Attributes:
        channel: The channel.
        sinks: Its sinks.
        request_id: The id of the `subscribe` that is not answered yet; None if there is none.
        is_subscribed: Whether the server delivers events of the channel.
        missed: Replayed events that are still to come.
        retries: How often in a row a `subscribe` failed and may be repeated.
    """

    __slots__ = ("_served", "channel", "is_subscribed", "missed", "request_id", "retries", "sinks")

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.sinks: list[Sink] = []
        self.request_id: str | None = None
        self.is_subscribed = False
        self.missed = 0
        self.retries = 0
        self._served: _Served = _NOTHING

    @property
    def is_settled(self) -> bool:
        """Whether nothing is to come but live events."""
        return self.request_id is None and not self.missed and all(sink.is_open or sink.is_full for sink in self.sinks)

    def waiting(self) -> list[Sink]:
        """Return the sinks that need an answer."""
        return [sink for sink in self.sinks if (not sink.is_open and not sink.is_full) or sink.needs_snapshot]

    def on_disconnected(self, as_of: float) -> None:
        """Wait for the next connection. This one has ended at the time `as_of`."""
        self.request_id = None
        self.is_subscribed = False
        self.missed = 0
        for sink in self.sinks:
            sink.suspend(as_of)

    def on_connected(self, seq: int, epoch: str) -> None:
        """Begin a connection. Sinks without a position start at that of the welcome."""
        for sink in self.sinks:
            if sink.seq is None and not sink.needs_snapshot:
                sink.start(seq, epoch)

    def next_request(self, current_epoch: str, request_id: str) -> dict[str, Any] | None:
        """Return the data of the next `subscribe`; None if no sink needs one."""
        waiting = self.waiting()
        if not waiting:
            return None
        # Open sinks take part: the server pauses the channel until its answer, which has to follow on what they have.
        resuming = [sink for sink in self.sinks if not sink.is_full and not sink.needs_snapshot]
        epochs = {sink.epoch for sink in resuming}
        epoch = next(iter(epochs - {current_epoch}), current_epoch)
        served = [sink for sink in resuming if sink.epoch == epoch and sink.seq is not None]
        since = min((sink.seq for sink in served if sink.seq is not None), default=None)
        with_snapshot = any(sink.needs_snapshot for sink in waiting)
        self.request_id = request_id
        self._served = (served + [sink for sink in waiting if sink.needs_snapshot], since, epoch)
        data: dict[str, Any] = {"channel": self.channel}
        if since is not None:
            data |= {"since": since, "epoch": epoch}
        if with_snapshot:
            data["snapshot"] = True
        return data

    def on_answer(self, answer: SubscribeAnswer) -> None:
        """Open the sinks that the answer serves."""
        served, since, epoch = self._served
        self._served = _NOTHING
        self.request_id = None
        self.is_subscribed = True
        self.retries = 0
        self.missed = answer.missed
        for sink in self.sinks:
            if sink not in served:
                # Nothing below the answer will follow for it.
                sink.is_open = False
            elif sink.needs_snapshot:
                if isinstance(answer.snapshot, UnsetType):
                    raise ProtocolError(f"The server sent no snapshot of {self.channel}")
                sink.load(answer.snapshot, seq=answer.seq, epoch=answer.epoch)
                sink.is_open = True
            elif answer.recovered:
                if not answer.missed:
                    sink.move_to(answer.seq)
                sink.is_open = True
            elif answer.epoch != epoch or sink.seq == since:
                sink.lose(self.channel, answer.reason, seq=answer.seq, epoch=answer.epoch)
                sink.is_open = not sink.needs_snapshot
            else:
                sink.is_open = False

    def on_failure(self, error: RequestFailed) -> float | None:
        """Return after how many seconds the `subscribe` may be repeated; None if it may not, and the sinks end."""
        self.request_id = None
        if not error.retryable:
            self.fail(error)
            return None
        if error.code != "RATE_LIMIT_EXCEEDED":
            # The server has ended the subscription, even one that was live.
            for sink in self.sinks:
                sink.is_open = False
        pause_seconds = min(FIRST_RETRY_SECONDS * 2 ** min(self.retries, 10), MAX_RETRY_SECONDS)
        self.retries += 1
        return pause_seconds if error.retry_after_ms is None else error.retry_after_ms / 1000

    def move_to(self, seq: int) -> None:
        """Everything of the channel up to `seq` was received."""
        if self.is_settled:
            for sink in self.sinks:
                if sink.is_open:
                    sink.move_to(seq)

    def fail(self, error: ClientError) -> None:
        """End every sink with an error."""
        for sink in self.sinks:
            sink.fail(error)

    def wake(self) -> None:
        """Wake those who wait for events or states of the channel."""
        for sink in self.sinks:
            sink.waiters.wake()
