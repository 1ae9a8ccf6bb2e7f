"""A channel layer that hangs: its Valkey server accepts connections and does not respond."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tests.harness.valkey import Valkey
from tests.harness.waiting import wait_until


@contextmanager
def frozen(valkey: Valkey) -> Iterator[None]:
    """Freeze the server until the end of the block."""
    valkey.pause()
    try:
        # The signal takes effect a moment after it is sent.
        wait_until(lambda: psutil.Process(valkey.pid).status() == psutil.STATUS_STOPPED, timeout_seconds=60)
        yield
    finally:
        valkey.resume()
