"""Whether the client of a streamed HTTP response keeps up, if the server knows.

Under daphne, what an application sends is buffered without a bound. So it asks here before it sends the next part. Any
other ASGI server lets `send` wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

EVENT_STREAM: Final = "text/event-stream"

EXTENSION: Final = "mahavishnu.output"
"""The extension of the scope of an HTTP request: a function that returns the `Output` of its response."""


class Output(Protocol):
    """The sending side of one streamed response.

    Attributes:
        on_resumed: Called when it is no longer paused.
    """

    on_resumed: Callable[[], None]

    @property
    def is_paused(self) -> bool:
        """Whether the client has yet to read what was sent."""

    def abort(self) -> None:
        """Drop the connection with what is unsent. The client learns that the response is not complete."""

    def close(self) -> None:
        """Watch the client no longer: the response ends."""


class UnpausedOutput:
    """Implements `Output` for servers whose `send` waits for the client."""

    is_paused = False

    def __init__(self) -> None:
        self.on_resumed = _ignore

    def abort(self) -> None:
        """Do nothing: the end of the response follows."""

    def close(self) -> None:
        """Do nothing."""


def output_of(scope: Mapping[str, Any]) -> Output:
    """Return the output of the response to a request."""
    make: Callable[[], Output] = scope.get("extensions", {}).get(EXTENSION, UnpausedOutput)
    return make()


async def resumed(output: Output) -> None:
    """Wait until an output is not paused."""
    has_resumed = asyncio.Event()
    output.on_resumed = has_resumed.set
    while output.is_paused:
        has_resumed.clear()
        await has_resumed.wait()


def _ignore() -> None:
    """Ignore that an output is resumed: nothing waits for it."""
