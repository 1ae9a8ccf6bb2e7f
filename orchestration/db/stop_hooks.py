"""Functions to call when a long-lived process that writes to the database stops: a scheduler, a worker's supervisor.

`realtime.eventlog` records that the log is complete on the disk. This package may not import it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_hooks: Final[list[Callable[[], None]]] = []


def call_at_stop(hook: Callable[[], None]) -> None:
    """Call `hook` when this process stops in an orderly way. It handles its own errors."""
    if hook not in _hooks:
        _hooks.append(hook)


def run_stop_hooks() -> None:
    """Call every hook. The process commits nothing afterwards."""
    for hook in _hooks:
        hook()
