"""The interface between a connection's writer and the ASGI server that sends its frames."""

from __future__ import annotations

from typing import Protocol

from realtime.protocol.frames import Frames


class Transport(Protocol):
    """The sending side of one connection, as implemented for one ASGI server.

    A transport calls `ConnectionWriter.mark_slow` when its client does not keep up.
    """

    @property
    def queued_bytes(self) -> int:
        """Bytes written that the operating system has not accepted yet."""

    def write(self, frames: Frames) -> None:
        """Send `frames` now or as soon as possible; never wait and never raise."""

    def discard_queued(self) -> None:
        """Drop every frame that has not begun to be sent."""

    def close(self, code: int, reason: str) -> None:
        """Send what is queued, then a close frame; drop the connection if the client takes too long."""

    def pause_reading(self) -> None:
        """Leave incoming data in the operating system's buffers, if the server supports it."""

    def resume_reading(self) -> None:
        """Undo one `pause_reading`."""

    def charge(self, cost: int) -> None:
        """Count work for the client as so many more messages, if the server has a ceiling for all clients together."""

    async def drained(self, *, below_bytes: int) -> None:
        """Wait until fewer than `below_bytes` are queued, or nothing more will be sent."""

    async def stop(self) -> None:
        """Release everything after the connection has ended."""
