"""Signals as something to wait for: each puts its number into a pipe."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def signals_as_bytes(numbers: Sequence[signal.Signals]) -> Iterator[int]:
    """Give a pipe that each of these signals puts its number into, instead of what it would do."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    yield reading
    signal.set_wakeup_fd(-1)


def wait_for_signals(pipe: int, seconds: float) -> bytes:
    """Wait for signals, at most so long, and return their numbers."""
    select.select([pipe], [], [], max(seconds, 0))
    try:
        return os.read(pipe, 512)
    except BlockingIOError:
        return b""
