"""The server's end of one connection, as the connection's writer sees it."""

from __future__ import annotations

from typing import Protocol

from realtime.protocol.frames import Frames


class Transport(Protocol):
    """The server's end of a connection."""

    @property
    def queued_bytes(self) -> int:
        """Bytes that were written and that the operating system has not taken yet."""

    def write(self, frames: Frames) -> None:
        """Send at once or as soon as possible; never wait and never raise.

        The outbox is told of a peer that is `slow`.
        """

    def discard_queued(self) -> None:
        """Forget what has not begun to be sent."""

    def close(self, code: int, reason: str) -> None:
        """Send what is unsent, then a close frame; give up on a peer that takes too long."""

    def pause_reading(self) -> None:
        """Leave what the peer sends in the operating system's buffers, where the server lets us say so."""

    def resume_reading(self) -> None:
        """Take back one `pause_reading`."""

    async def drained(self, *, below_bytes: int) -> None:
        """Wait until fewer than `below_bytes` are unsent, or nothing more will be sent."""

    async def finished(self) -> None:
        """Stop sending: the connection is gone."""
