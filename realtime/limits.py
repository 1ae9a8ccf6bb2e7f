"""The limits of a server process: queue sizes, timeouts and retention, with units and defaults.

The site reads each field of `Limits` from the environment variable `MAHAVISHNU_<FIELD_NAME>` at startup. The API
reference and `docs/protocol.md` document the limits that clients see.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from orchestration.bounds import KIB, MIB, bounded, counted

LISTEN_BACKLOG: Final = 4096
"""Connections that may wait to be accepted, for example when thousands of clients reconnect at once. The `Procfile`
contains the same number. The kernel's `somaxconn` may be lower.
"""

Network = IPv4Network | IPv6Network

LOOPBACK_NETWORKS: Final[tuple[Network, ...]] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
"""The default of `MAHAVISHNU_TRUSTED_PROXIES`: a proxy on this machine."""
_REPLAY_PART = 4
"""A replay is written in chunks of at most `max_send_queue_bytes` divided by this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits of one server process."""

    max_connections: int = counted(
        1000, minimum=1, maximum=1_000_000, help="Open WebSockets and server-sent events of one process."
    )
    max_connections_per_address: int = counted(
        100,
        minimum=0,
        maximum=1_000_000,
        help="WebSockets and event streams of one address, and as many HTTP connections; 0: no quota for addresses.",
    )
    max_connects_per_second: float = bounded(
        20.0, minimum=0.1, maximum=1e6, help="New connections a second from one address, on average."
    )
    max_connect_burst: int = counted(
        200, minimum=1, maximum=1_000_000, help="New connections from one address at once, before the average applies."
    )
    max_messages_per_second: float = bounded(
        100.0, minimum=0.1, maximum=1e6, help="Messages a second that one connection may send, on average."
    )
    max_total_messages_per_second: float = bounded(
        3000.0,
        minimum=1.0,
        maximum=1e9,
        help="Messages a second of all clients together, above which connections are read in turns.",
    )
    max_message_burst: int = counted(
        150, minimum=1, maximum=1_000_000, help="Messages that a client may send at once, before the average applies."
    )
    max_forbidden_per_minute: int = counted(
        100,
        minimum=1,
        maximum=1_000_000,
        help="Requests answered with `FORBIDDEN` in a minute, after which a connection is closed; a client of the HTTP "
        "API waits.",
    )
    rate_limit_grace_seconds: float = bounded(
        5.0, minimum=0.0, maximum=3600.0, help="How long a connection may exceed its rate limit before it is closed."
    )
    max_message_bytes: int = counted(64 * KIB, minimum=KIB, maximum=16 * MIB, help="Size of one message from a client.")
    max_event_data_bytes: int = counted(
        64 * KIB, minimum=KIB, maximum=16 * MIB, help="Size of one event's `data`; longer data is truncated."
    )
    large_event_data_bytes: int = counted(
        KIB, minimum=1, maximum=16 * MIB, help="A delivered event counts as large if its message is longer than this."
    )
    max_subscriptions: int = counted(
        128, minimum=1, maximum=100_000, help="Channels that one connection may subscribe to."
    )
    max_followed_streams: int = counted(
        1000, minimum=1, maximum=100_000, help="Streams of stages that the clients of one process may read."
    )
    max_requests_in_flight: int = counted(
        16, minimum=1, maximum=10_000, help="Requests of one connection answered concurrently; further ones wait."
    )
    request_timeout_seconds: float = bounded(
        10.0, minimum=0.1, maximum=600.0, help="How long a request may take before it is answered with `SERVER_ERROR`."
    )
    max_replay_events: int = counted(
        10_000, minimum=0, maximum=10_000_000, help="Missed events that one `subscribe` with `since` may replay."
    )
    max_replay_chunk_bytes: int = counted(
        256 * KIB,
        minimum=KIB,
        maximum=64 * MIB,
        help="Bytes of missed events or of a list read at once; one may be larger. "
        "A client that reads nothing holds these.",
    )
    max_replay_burst_bytes: int = counted(
        4 * MIB,
        minimum=1,
        maximum=1024 * MIB,
        help="Bytes of replays, snapshots and lists for one connection at once, before the average applies.",
    )
    max_replay_bytes_per_second: float = bounded(
        float(MIB),
        minimum=1.0,
        maximum=1e12,
        help="Bytes a second of replays, snapshots and lists of one connection, on average; a replay is finished.",
    )
    max_concurrent_replays: int = counted(
        0,
        minimum=0,
        maximum=256,
        help="Replays, snapshots and lists that read the database at once; 0: one on SQLite, four on Postgres.",
    )
    max_replay_cache_bytes: int = counted(
        4 * MIB,
        minimum=0,
        maximum=1024 * MIB,
        help="Memory for the missed events of the last second, which are read once for all clients.",
    )
    max_send_queue_bytes: int = counted(
        MIB,
        minimum=KIB,
        maximum=1024 * MIB,
        help="Unsent bytes of one connection above which a slow client is disconnected.",
    )
    max_burst_seconds: float = bounded(
        0.5,
        minimum=0.05,
        maximum=60.0,
        help="With more than `MAX_SEND_QUEUE_BYTES` unsent, a client must read an eighth of that in this time.",
    )
    max_burst_bytes: int = counted(
        16 * MIB,
        minimum=KIB,
        maximum=1024 * MIB,
        help="Unsent bytes of one connection, even in a burst of events, above which any client is disconnected.",
    )
    send_stall_seconds: float = bounded(
        15.0, minimum=0.1, maximum=3600.0, help="How long a client may read nothing before it is disconnected."
    )
    max_receive_queue_messages: int = counted(
        64,
        minimum=1,
        maximum=1_000_000,
        help="Unprocessed messages of one connection before the server stops reading from it.",
    )
    max_receive_queue_bytes: int = counted(
        256 * KIB,
        minimum=KIB,
        maximum=1024 * MIB,
        help="Unprocessed bytes of one connection before the server stops reading from it.",
    )
    open_timeout_seconds: float = bounded(
        10.0, minimum=0.1, maximum=600.0, help="Time allowed to send one complete HTTP request."
    )
    auth_timeout_seconds: float = bounded(
        10.0, minimum=0.1, maximum=600.0, help="Time allowed for the first message of a client, which has its token."
    )
    max_unauthenticated: int = counted(
        100, minimum=1, maximum=1_000_000, help="WebSockets of one process that have yet to send their token."
    )
    max_unauthenticated_per_address: int = counted(
        10, minimum=1, maximum=1_000_000, help="WebSockets of one address that have yet to send their token."
    )
    max_auth_failures_per_minute: int = counted(
        10,
        minimum=0,
        maximum=1_000_000,
        help="Refused tokens of one address, after which it waits 60 s; 0: it never waits.",
    )
    max_http_connections: int = counted(
        2000, minimum=1, maximum=1_000_000, help="Open HTTP connections of one process; WebSockets do not count."
    )
    http_idle_timeout_seconds: float = bounded(
        30.0, minimum=1.0, maximum=3600.0, help="How long an HTTP connection may stay open between two requests."
    )
    max_body_bytes: int = counted(
        MIB, minimum=KIB, maximum=1024 * MIB, help="Size of the body of one HTTP request, as it is sent."
    )
    max_stored_answers_bytes: int = counted(
        16 * 1024 * MIB,
        minimum=KIB,
        maximum=1024 * 1024 * MIB,
        help="Stored answers to requests with an `Idempotency-Key`, above which new keys are refused; "
        "one user may have half.",
    )
    close_timeout_seconds: float = bounded(
        3.0, minimum=1.0, maximum=600.0, help="Time allowed to flush pending data and finish the closing handshake."
    )
    drain_timeout_seconds: float = bounded(
        10.0, minimum=0.1, maximum=3600.0, help="Time allowed for a graceful shutdown."
    )
    reconnect_window_seconds: float = bounded(
        10.0,
        minimum=0.0,
        maximum=3600.0,
        help="Period over which a stopping server spreads the reconnects of clients.",
    )
    database_threads: int = counted(
        4, minimum=1, maximum=256, help="Threads of one process that read the database for requests."
    )
    relay_poll_seconds: float = bounded(
        0.5, minimum=0.02, maximum=2.0, help="How often the relay compares what it has delivered with the event log."
    )
    max_unpublished_events: int = counted(
        10_000, minimum=1, maximum=10_000_000, help="Events of one process that wait to be published to Redis."
    )
    publish_timeout_seconds: float = bounded(
        1.0,
        minimum=0.05,
        maximum=60.0,
        help="Timeout for one publish to Redis; afterwards events arrive through the event log.",
    )
    max_log_events: int = counted(1_000_000, minimum=1, maximum=10_000_000_000, help="Events kept in the event log.")
    max_log_age_seconds: float = bounded(
        7 * 86400.0, minimum=1.0, maximum=3650 * 86400.0, help="How long an event is kept in the event log."
    )
    min_log_age_seconds: float = bounded(
        60.0, minimum=0.0, maximum=86400.0, help="Younger events are never pruned, so that relays can backfill."
    )
    log_prune_interval_seconds: float = bounded(
        60.0, minimum=0.1, maximum=86400.0, help="How often a server process prunes the event log."
    )
    write_probe_interval_seconds: float = bounded(
        10.0, minimum=0.1, maximum=3600.0, help="How often `/health` tries to write to the database, at most."
    )

    @property
    def replay_chunk_bytes(self) -> int:
        """Bytes of missed events written at once. They must not fill the send queue."""
        return min(self.max_replay_chunk_bytes, self.max_send_queue_bytes // _REPLAY_PART)
