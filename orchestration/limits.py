"""The limits of the engine, each with its name, unit, default and range.

The site reads each field of `EngineLimits` from the environment variable `MAHAVISHNU_<FIELD_NAME>` at startup.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from orchestration.bounds import KIB, MIB, bounded, counted


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineLimits:
    """The limits of workers and the scheduler."""

    worker_concurrency: int = counted(
        2, minimum=1, maximum=256, help="Stages that the worker of `make serve` runs in parallel."
    )
    lease_seconds: float = bounded(
        10.0,
        minimum=0.2,
        maximum=3600.0,
        help="Lease duration: without a heartbeat for this long, a running stage is considered lost.",
    )
    heartbeat_seconds: float = bounded(
        1.0, minimum=0.05, maximum=60.0, help="How often a worker process records a heartbeat."
    )
    worker_timeout_seconds: float = bounded(
        4.0, minimum=0.2, maximum=3600.0, help="Without a heartbeat for this long, a worker is marked offline."
    )
    supervisor_interval_seconds: float = bounded(
        0.2, minimum=0.02, maximum=1.0, help="How often a worker process checks for cancelled, late and crashed stages."
    )
    scheduler_interval_seconds: float = bounded(
        0.25, minimum=0.02, maximum=1.0, help="How often the scheduler checks for due work."
    )
    cancel_grace_seconds: float = bounded(
        2.0,
        minimum=0.0,
        maximum=3600.0,
        help="Time a stage has to end after its workflow has ended; it is killed afterwards.",
    )
    shutdown_grace_seconds: float = bounded(
        5.0, minimum=0.0, maximum=86400.0, help="Time that running stages have to finish when their worker shuts down."
    )
    inline_continuation_seconds: float = bounded(
        1.0,
        minimum=0.0,
        maximum=3600.0,
        help="How long a worker continues inline with the next stages of a workflow before it takes another message.",
    )
    redispatch_seconds: float = bounded(
        5.0,
        minimum=0.1,
        maximum=3600.0,
        help="How long a queued stage waits for a worker before the scheduler checks its message.",
    )
    broker_timeout_seconds: float = bounded(
        1.0, minimum=0.1, maximum=60.0, help="Timeout for publishing to the broker; the scheduler retries afterwards."
    )
    max_lost_attempts: int = counted(
        3, minimum=0, maximum=1000, help="How many times a stage is retried after its worker was lost."
    )
    max_run_stages: int = counted(
        10_000,
        minimum=1,
        maximum=1_000_000,
        help="Stages that a run may have after a stage has added steps; a stage that adds more fails.",
    )
    max_sub_run_depth: int = counted(
        8, minimum=1, maximum=100, help="Runs that a sub-run may have above it; a stage that starts a deeper one fails."
    )
    max_result_bytes: int = counted(
        MIB, minimum=KIB, maximum=64 * MIB, help="Size of a stage's output as JSON; a larger output fails the stage."
    )
    max_steps: int = counted(
        1000, minimum=1, maximum=100_000, help="Steps (`ctx.step`) that one stage may store; a further one fails it."
    )
    max_error_characters: int = counted(
        1000, minimum=50, maximum=100_000, help="Length of an error that clients receive; the rest is cut."
    )
    max_traceback_characters: int = counted(
        20_000, minimum=100, maximum=1_000_000, help="Length of a stored traceback; the beginning is cut."
    )
    max_log_message_characters: int = counted(
        4000, minimum=10, maximum=50_000, help="Length of one log message of a stage; the rest is cut."
    )
    max_log_messages: int = counted(
        1000, minimum=0, maximum=1_000_000, help="Log messages that one attempt may send; later ones are dropped."
    )
    max_streams: int = counted(16, minimum=0, maximum=1000, help="Streams of one stage, those of all attempts.")
    max_stream_bytes: int = counted(
        MIB,
        minimum=KIB,
        maximum=64 * MIB,
        help="Size of a stream that is kept in memory and in Redis, and stored; later chunks only reach readers.",
    )
    max_stream_buffer_bytes: int = counted(
        256 * KIB,
        minimum=KIB,
        maximum=64 * MIB,
        help="Chunks beyond `MAHAVISHNU_MAX_STREAM_BYTES` that wait while Redis is unavailable; older ones are lost.",
    )
    stream_interval_seconds: float = bounded(
        0.05, minimum=0.005, maximum=10.0, help="How long chunks of a stream are joined before they are sent."
    )
    stream_expiry_seconds: float = bounded(
        3600.0, minimum=1.0, maximum=30 * 86400.0, help="How long Redis keeps a stream without new chunks."
    )
    max_run_age_seconds: float = bounded(
        90 * 86400.0,
        minimum=1.0,
        maximum=3650 * 86400.0,
        help="How long a finished workflow is kept, with its stages.",
    )
    max_finished_runs: int = counted(
        1_000_000, minimum=1, maximum=10**10, help="Finished workflows that are kept, the newest ones."
    )
    max_offline_worker_age_seconds: float = bounded(
        7 * 86400.0, minimum=1.0, maximum=3650 * 86400.0, help="How long a worker is kept after it went offline."
    )
    pool_status_interval_seconds: float = bounded(
        0.1,
        minimum=0.0,
        maximum=60.0,
        help="Minimum time between two metrics events of one pool, while a scheduler runs.",
    )
    progress_interval_seconds: float = bounded(
        0.1, minimum=0.0, maximum=60.0, help="Minimum time between two progress events of one stage."
    )


def engine_limits() -> EngineLimits:
    """Return the limits of this process."""
    return settings.MAHAVISHNU_ENGINE
