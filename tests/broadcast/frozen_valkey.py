"""A bus that hangs: it answers nothing and refuses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tests.harness.valkey import Valkey
from tests.harness.waiting import wait_until


@contextmanager
def frozen(valkey: Valkey) -> Iterator[None]:
    """Freeze the server, surely, to the end of the block."""
    valkey.pause()
    try:
        wait_until(lambda: psutil.Process(valkey.pid).status() == psutil.STATUS_STOPPED, timeout_seconds=60)
        yield
    finally:
        valkey.resume()
