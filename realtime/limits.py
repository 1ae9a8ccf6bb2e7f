"""Every bound of the realtime half, with its name, its unit and its default.

Each field of `Limits` is read from the environment variable `MAHAVISHNU_<FIELD_NAME>` at start. A number here is a
promise of the API reference or of `docs/protocol.md`, or the bound of a queue, a buffer or a wait.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestration.bounds import KIB, MIB, bounded, counted


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The bounds one server process works within."""

    max_connections: int = counted(
        1000, minimum=1, maximum=1_000_000, help="Open WebSocket connections of one process."
    )
    max_messages_per_second: float = bounded(
        100.0, minimum=0.1, maximum=1e6, help="Messages a second one connection may send, on average."
    )
    max_message_burst: int = counted(
        150, minimum=1, maximum=1_000_000, help="Messages one connection may send at once."
    )
    rate_limit_grace_seconds: float = bounded(
        5.0, minimum=0.0, maximum=3600.0, help="How long a connection may stay over its rate before it is closed."
    )
    max_message_bytes: int = counted(64 * KIB, minimum=KIB, maximum=16 * MIB, help="Size of one message from a client.")
    max_event_data_bytes: int = counted(
        64 * KIB, minimum=KIB, maximum=16 * MIB, help="Size of one event's `data`; larger results are cut."
    )
    large_event_data_bytes: int = counted(
        KIB, minimum=1, maximum=16 * MIB, help="Size of an event's `data` above which it is counted as large."
    )
    max_subscriptions: int = counted(128, minimum=1, maximum=100_000, help="Channels one connection may subscribe to.")
    max_requests_in_flight: int = counted(
        16, minimum=1, maximum=10_000, help="Requests of one connection being answered at the same time."
    )
    request_timeout_seconds: float = bounded(
        10.0, minimum=0.1, maximum=600.0, help="How long one request may take before it is answered SERVER_ERROR."
    )
    max_replay_events: int = counted(
        10_000, minimum=0, maximum=10_000_000, help="Missed events one `since` may ask for."
    )
    max_send_queue_bytes: int = counted(
        MIB, minimum=KIB, maximum=1024 * MIB, help="Bytes waiting for one slow reader before it is closed."
    )
    max_burst_seconds: float = bounded(
        0.5,
        minimum=0.05,
        maximum=60.0,
        help="How long more may wait for one reader before it has to have taken an eighth of `MAX_SEND_QUEUE_BYTES`.",
    )
    max_burst_bytes: int = counted(
        16 * MIB, minimum=KIB, maximum=1024 * MIB, help="Bytes waiting for one reader before it is closed at once."
    )
    send_stall_seconds: float = bounded(
        15.0, minimum=0.1, maximum=3600.0, help="How long one reader may take nothing before it is closed."
    )
    max_receive_queue_messages: int = counted(
        64,
        minimum=1,
        maximum=1_000_000,
        help="Messages of one connection waiting to be looked at before reading pauses.",
    )
    max_receive_queue_bytes: int = counted(256 * KIB, minimum=KIB, maximum=1024 * MIB, help="The same in bytes.")
    open_timeout_seconds: float = bounded(
        10.0, minimum=0.1, maximum=600.0, help="How long a client may take to send one HTTP request to its end."
    )
    close_timeout_seconds: float = bounded(
        3.0, minimum=1.0, maximum=600.0, help="How long a client may take to take what is unsent and to close."
    )
    drain_timeout_seconds: float = bounded(
        10.0, minimum=0.1, maximum=3600.0, help="How long a server that was told to stop may take to end."
    )
    reconnect_window_seconds: float = bounded(
        10.0, minimum=0.0, maximum=3600.0, help="Over how long the clients of a server that stops spread their return."
    )
    database_threads: int = counted(
        4, minimum=1, maximum=256, help="Threads of one process that read the database for clients."
    )
    relay_poll_seconds: float = bounded(
        0.5, minimum=0.02, maximum=2.0, help="How often the relay compares what it delivered with the log."
    )
    max_unpublished_events: int = counted(
        10_000, minimum=1, maximum=10_000_000, help="Events of one process waiting to be pushed to the bus."
    )
    publish_timeout_seconds: float = bounded(
        1.0, minimum=0.05, maximum=60.0, help="How long one push to the bus may take before it is left to the log."
    )
    max_log_events: int = counted(1_000_000, minimum=1, maximum=10_000_000_000, help="Events kept in the log.")
    max_log_age_seconds: float = bounded(
        7 * 86400.0, minimum=1.0, maximum=3650 * 86400.0, help="How long an event is kept in the log."
    )
    min_log_age_seconds: float = bounded(
        60.0, minimum=0.0, maximum=86400.0, help="Events younger than this are never pruned, so every relay can heal."
    )
    log_prune_interval_seconds: float = bounded(
        60.0, minimum=0.1, maximum=86400.0, help="How often a server process prunes the log."
    )
