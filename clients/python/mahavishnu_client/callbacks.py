"""What a session calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Callbacks:
    """What a session calls.

    Attributes:
        later: Calls a function after some seconds.
        on_outgoing: Called when there is something to send.
        on_welcome: Called at the welcome, before anything is sent.
        on_live: Called when the session becomes live.
        on_draining: Called when the server announces its end.
        on_expiring: Called when the server announces that the token will expire.
    """

    later: Callable[[float, Callable[[], None]], object]
    on_outgoing: Callable[[], None]
    on_welcome: Callable[[], None]
    on_live: Callable[[], None]
    on_draining: Callable[[], None]
    on_expiring: Callable[[], None]
