"""Every bound of the engine, with its name, its unit and its default.

Each field of `EngineLimits` is read from the environment variable `MAHAVISHNU_<FIELD_NAME>` at start.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from orchestration.bounds import KIB, MIB, bounded, counted


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineLimits:
    """The bounds that workers and the scheduler work within."""

    worker_concurrency: int = counted(
        2, minimum=1, maximum=256, help="Stages that the worker of `make serve` runs side by side."
    )
    lease_seconds: float = bounded(
        10.0, minimum=0.2, maximum=3600.0, help="How long a running stage is believed to run without a sign of life."
    )
    heartbeat_seconds: float = bounded(
        1.0, minimum=0.05, maximum=60.0, help="How often a worker process gives a sign of life."
    )
    worker_timeout_seconds: float = bounded(
        4.0, minimum=0.2, maximum=3600.0, help="How long a worker may be silent before it is offline."
    )
    supervisor_interval_seconds: float = bounded(
        0.2, minimum=0.02, maximum=1.0, help="How often a worker process looks for cancelled, late and crashed stages."
    )
    scheduler_interval_seconds: float = bounded(
        0.25, minimum=0.02, maximum=10.0, help="How often the scheduler looks for what is due."
    )
    cancel_grace_seconds: float = bounded(
        2.0, minimum=0.0, maximum=3600.0, help="How long a stage may go on after its run ended before it is killed."
    )
    shutdown_grace_seconds: float = bounded(
        5.0, minimum=0.0, maximum=86400.0, help="How long stages may go on after their worker was told to stop."
    )
    inline_continuation_seconds: float = bounded(
        1.0,
        minimum=0.0,
        maximum=3600.0,
        help="How long a worker goes on with the next stages of a run before it takes the next message.",
    )
    redispatch_seconds: float = bounded(
        5.0, minimum=0.1, maximum=3600.0, help="How long a queued stage waits before the broker is asked about it."
    )
    broker_timeout_seconds: float = bounded(
        1.0, minimum=0.1, maximum=60.0, help="How long the broker may take; then the scheduler tells it later."
    )
    max_lost_attempts: int = counted(
        3, minimum=0, maximum=1000, help="How often a stage runs again because its worker died under it."
    )
    max_result_bytes: int = counted(
        MIB, minimum=KIB, maximum=64 * MIB, help="Size of a stage's output as JSON; a larger one is a failure."
    )
    max_error_characters: int = counted(
        1000, minimum=50, maximum=100_000, help="Length of an error that clients are told; the rest is cut."
    )
    max_traceback_characters: int = counted(
        20_000, minimum=100, maximum=1_000_000, help="Length of a stored traceback; its beginning is cut."
    )
    max_log_message_characters: int = counted(
        4000, minimum=10, maximum=50_000, help="Length of one message of a stage; the rest is cut."
    )
    max_log_messages: int = counted(
        1000, minimum=0, maximum=1_000_000, help="Messages that one attempt may send; later ones are dropped."
    )
    pool_status_interval_seconds: float = bounded(
        0.1, minimum=0.0, maximum=60.0, help="How often the metrics of one pool are told at most, if a scheduler runs."
    )
    progress_interval_seconds: float = bounded(
        0.1, minimum=0.0, maximum=60.0, help="How often one stage's progress is told at most."
    )


def engine_limits() -> EngineLimits:
    """The limits of this process."""
    return settings.MAHAVISHNU_ENGINE
