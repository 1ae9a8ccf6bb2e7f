"""What `CELERY_BROKER_URL` means to Celery, and how Celery is to behave here."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

from mahavishnu_site.env import UnexpectedValueError
from orchestration.limits import EngineLimits

BROKER_URL_EXPECTED: Final = (
    "redis://host:port/number, rediss://host:port/number, redis+socket:///path/to/socket, amqp://user:password@host:port/"
    " or another URL that Celery knows"
)

# Messages that were taken and not acknowledged come back after so long. Nothing waits for them: the scheduler sees what
# was lost long before. But a stage that runs longer than this gets a second message, which is refused.
VISIBILITY_TIMEOUT_SECONDS: Final = 24 * 3600

# Keys of the queue in Redis, which other things may share.
KEY_PREFIX: Final = "mahavishnu.queue."

# A child that does not say that it is up by then is ended: on a busy machine Celery's own 4 s are too few.
CHILD_START_TIMEOUT_SECONDS: Final = 60


def broker_url(redis_url: str) -> str:
    """Return a Redis URL as Celery writes it: a socket is `redis+socket:///path` to it."""
    return re.sub(r"\Aunix:", "redis+socket:", redis_url)


def parse_broker_url(url: str) -> str:
    """Return the URL of a broker as it was given.

    Raises:
        UnexpectedValueError: it has no scheme, or one that Celery has no transport for.
    """
    # Several, with semicolons between them, are brokers that stand in for each other.
    for each in broker_url(url).split(";"):
        _check_scheme(each)
    return broker_url(url)


def _check_scheme(url: str) -> None:
    # Here, because it takes longer than all other settings together, and most are content with the default.
    from kombu.transport import resolve_transport

    scheme, found, _ = url.partition("://")
    if not found:
        raise UnexpectedValueError(BROKER_URL_EXPECTED)
    try:
        # In `redis+socket` the transport is what comes first.
        resolve_transport(scheme.partition("+")[0])
    except (KeyError, ImportError, AttributeError, ValueError, NameError) as error:
        # Kombu knows none of this name, or lacks what it is made of; of Kafka's it says so with a NameError.
        raise UnexpectedValueError(f"{BROKER_URL_EXPECTED} ({error.args[0]})") from None


def celery_settings(url: str, limits: EngineLimits) -> dict[str, Any]:
    """Return Celery's configuration: the queue wakes workers, and is trusted with nothing else."""
    return {
        "broker_url": url,
        "broker_transport_options": _redis_options(limits) if urlsplit(url).scheme.startswith("redis") else {},
        "broker_connection_timeout": limits.broker_timeout_seconds,
        "broker_connection_retry_on_startup": True,
        # A worker waits for its broker for as long as it takes.
        "broker_connection_max_retries": None,
        # A message is acknowledged when its attempt has ended, and comes back when the process that had it is gone.
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
