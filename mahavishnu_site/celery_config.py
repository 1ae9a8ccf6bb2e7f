"""Celery's configuration, and the broker URL from `CELERY_BROKER_URL`."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

from mahavishnu_site.env import UnexpectedValueError
from orchestration.limits import EngineLimits

BROKER_URL_EXPECTED: Final = (
    "redis://host:port/number, rediss://host:port/number, redis+socket:///path/to/socket, amqp://user:password@host:port/"
    " or another URL that Celery supports"
)

# Kombu's transports whose messages stay in the process, or in a folder that nothing reads.
LOCAL_TRANSPORTS: Final = frozenset({"memory", "filesystem"})

# Redis redelivers messages that were not acknowledged within this time. Nothing depends on that: the scheduler finds
# lost stages long before. A stage that runs longer than this gets a second message, which is rejected.
VISIBILITY_TIMEOUT_SECONDS: Final = 24 * 3600

# Prefix of the queue's keys in a Redis that may be shared.
KEY_PREFIX: Final = "mahavishnu.queue."

# A child process that does not report its start within this time is killed. Celery's default of 4 s is too
# short on a busy machine.
CHILD_START_TIMEOUT_SECONDS: Final = 60


def broker_url(redis_url: str) -> str:
    """Return a Redis URL in Celery's notation: a Unix socket is `redis+socket:///path`."""
    return re.sub(r"\Aunix:", "redis+socket:", redis_url)


def parse_broker_url(url: str) -> str:
    """Return the URL of a broker in Celery's notation.

    Raises:
        UnexpectedValueError: if the URL has no scheme, or Celery has no transport for its scheme.
    """
    # Several URLs, separated by semicolons, are brokers for failover.
    for each in broker_url(url).split(";"):
        _check_scheme(each)
    return broker_url(url)


def _check_scheme(url: str) -> None:
    # Imported here: it takes longer than all other settings together, and most installations use the default.
    from kombu.transport import resolve_transport

    scheme, found, _ = url.partition("://")
    if not found:
        raise UnexpectedValueError(BROKER_URL_EXPECTED)
    try:
        # In `redis+socket` the first part is the transport.
        transport = resolve_transport(scheme.partition("+")[0])
    except (KeyError, ImportError, AttributeError, ValueError, NameError) as error:
        # Kombu has no transport of this name, or a package is missing; for Kafka the error is a NameError.
        raise UnexpectedValueError(f"{BROKER_URL_EXPECTED} ({error.args[0]})") from None
    if transport.driver_type in LOCAL_TRANSPORTS:
        raise UnexpectedValueError(f"{BROKER_URL_EXPECTED} ({transport.driver_type} reaches no other process)")


def celery_settings(url: str, limits: EngineLimits) -> dict[str, Any]:
    """Return Celery's configuration. The queue only wakes workers; all state is in the database."""
    return {
        "broker_url": url,
        "broker_transport_options": _redis_options(limits) if urlsplit(url).scheme.startswith("redis") else {},
        "broker_connection_timeout": limits.broker_timeout_seconds,
        "broker_connection_retry_on_startup": True,
        # A worker retries without a limit.
        "broker_connection_max_retries": None,
        # An error that the broker answers with is a reason to reconnect, not to end.
        "broker_channel_error_retry": True,
        "worker_consumer": "orchestration.worker.consumer:StageConsumer",
        # A message is acknowledged when its attempt has ended, and redelivered if its process dies.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "task_ignore_result": True,
        "worker_concurrency": limits.worker_concurrency,
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_proc_alive_timeout": CHILD_START_TIMEOUT_SECONDS,
        "accept_content": ["json"],
        "timezone": "UTC",
    }


def _redis_options(limits: EngineLimits) -> dict[str, Any]:
    return {
        "global_keyprefix": KEY_PREFIX,
        "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
        "socket_connect_timeout": limits.broker_timeout_seconds,
        "socket_timeout": limits.broker_timeout_seconds,
        "retry_on_timeout": False,
    }
