"""Settings of every session with Postgres: how long it waits for locks, and how transactions are isolated.

On SQLite, the option `timeout` of the connection limits the waits, and there is one level of isolation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from django.db import connection as default_connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models import Model, QuerySet

Row = TypeVar("Row", bound=Model)

LOCK_TIMEOUT_SECONDS: Final = 20.0
"""The limit in most processes. Writers on SQLite give up after the same time."""

BACKGROUND_LOCK_TIMEOUT_SECONDS: Final = 1.0
"""The limit in a scheduler and in a worker's supervisor: their other duties must not wait for one row."""

_LOCK_TIMEOUT: Final = "lock_timeout"
_IDLE_TIMEOUT: Final = "idle_in_transaction_session_timeout"

# A limit that the operator set, in the URL or for the role, stays.
_SET: Final = """
SELECT set_config(name, value, false)
FROM unnest(%s::text[], %s::text[]) AS limits (name, value)
WHERE current_setting(name) IN ('0', value)
"""

_limits_ms: Final[dict[str, int]] = {}


def _on_connect(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        # Services lock rows. With a stricter level, concurrent changes would fail with "could not serialize access".
        cursor.execute("SET default_transaction_isolation = 'read committed'")
        cursor.execute(_SET, [list(_limits_ms), [str(limit_ms) for limit_ms in _limits_ms.values()]])


def lock_if_free(rows: QuerySet[Row]) -> QuerySet[Row]:
    """Lock the rows that no other transaction holds, and leave out the others. SQLite has no locks of rows."""
    skip_locked = default_connection.features.has_select_for_update_skip_locked
    return rows.select_for_update(no_key=True, skip_locked=skip_locked)


def install() -> None:
    """Apply the settings to all connections that this process opens from now on."""
    limit_lock_waits(LOCK_TIMEOUT_SECONDS)
    connection_created.connect(_on_connect, dispatch_uid=__name__)


def limit_lock_waits(seconds: float) -> None:
    """Change the limit for connections that this process opens from now on."""
    _limits_ms[_LOCK_TIMEOUT] = round(seconds * 1000)


def limit_idle_transactions(seconds: float) -> None:
    """End transactions of this process that send nothing for this long, on connections that it opens from now on.

    For a process that may be frozen: Postgres then releases the locks that it holds.
    """
    _limits_ms[_IDLE_TIMEOUT] = round(seconds * 1000)


@contextmanager
def unlimited_idle_transactions() -> Iterator[None]:
    """Exempt connections that are opened in the block, for the code of stages: it may compute in a transaction."""
    limit_ms = _limits_ms.pop(_IDLE_TIMEOUT, None)
    try:
        yield
    finally:
        if limit_ms is not None:
            _limits_ms[_IDLE_TIMEOUT] = limit_ms
