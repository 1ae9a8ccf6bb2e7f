"""Call services at the same time, each from a separate thread with its own database connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from django.db import connection

from orchestration import services
from tests.services.signal_recorder import RecordedSignal

ROUNDS: Final = 5
"""How often to repeat a test of a race."""

Outcome = Any
"""What a call returned, or the service error that it raised."""


def run_concurrently(*calls: Callable[[], object]) -> list[Outcome]:
    """Make the calls at the same time, and return their outcomes in order. Other errors than those of services fail."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> Outcome:
        try:
            connection.ensure_connection()
            barrier.wait(timeout=60)
            return call()
        except services.ServiceError as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def single_error(outcomes: Sequence[Outcome]) -> services.ServiceError:
    """Return the error of the only rejected call."""
    (error,) = [outcome for outcome in outcomes if isinstance(outcome, services.ServiceError)]
    return error


def count_signals(recorded: list[RecordedSignal], name: str) -> int:
    """Return how many signals of this name were sent."""
    return sum(signal.name == name for signal in recorded)
