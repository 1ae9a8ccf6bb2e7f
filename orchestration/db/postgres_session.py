"""Limits of the sessions with Postgres in which the engine works: the waits for locks, idle transactions, isolation.

They apply to the database `default`, which holds the engine's tables, and not to `migrate`, which may wait for longer.
On SQLite, the option `timeout` of the connection limits the waits, and there is one level of isolation.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from django.db import DEFAULT_DB_ALIAS, connections
from django.db import connection as default_connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models import Model, QuerySet
from django.db.models.signals import post_migrate, pre_migrate

Row = TypeVar("Row", bound=Model)

LOCK_TIMEOUT_SECONDS: Final = 20.0
"""The limit in most processes. Writers on SQLite give up after the same time."""

BACKGROUND_LOCK_TIMEOUT_SECONDS: Final = 1.0
"""The limit in a scheduler and in a worker's supervisor: their other duties must not wait for one row."""

IDLE_TRANSACTION_SECONDS: Final = 60.0
"""The limit in most processes, such as those that serve pages. A frozen one may hold the row of a pool."""

_LOCK_TIMEOUT: Final = "lock_timeout"
_IDLE_TIMEOUT: Final = "idle_in_transaction_session_timeout"

# A limit that the operator set, in the URL or for the role, stays.
_RESET: Final = f"RESET {_LOCK_TIMEOUT}; RESET {_IDLE_TIMEOUT}"
_SET: Final = """
SELECT set_config(name, value, false)
FROM unnest(%s::text[], %s::text[]) AS limits (name, value)
WHERE current_setting(name) = '0'
"""

_defaults_ms: Final[dict[str, int]] = {}
_own_limits_ms: Final[WeakKeyDictionary[BaseDatabaseWrapper, dict[str, int]]] = WeakKeyDictionary()
_migrating: Final[WeakSet[BaseDatabaseWrapper]] = WeakSet()


def install() -> None:
    """Apply the limits to all connections with the database `default` that this process opens from now on."""
    _defaults_ms.update({_LOCK_TIMEOUT: _ms(LOCK_TIMEOUT_SECONDS), _IDLE_TIMEOUT: _ms(IDLE_TRANSACTION_SECONDS)})
    connection_created.connect(_on_connect, dispatch_uid=__name__)
    pre_migrate.connect(_on_migrate, dispatch_uid=__name__)
    post_migrate.connect(_on_migrated, dispatch_uid=__name__)


def limit_lock_waits(seconds: float) -> None:
    """Change the limit of this thread's connection, each time that it is opened from now on."""
    _limit(_LOCK_TIMEOUT, seconds)


def limit_idle_transactions(seconds: float) -> None:
    """Have Postgres end transactions of this thread's connection that send nothing for this long.

    For a process that may be frozen: the locks that it holds are then released.
    """
    _limit(_IDLE_TIMEOUT, seconds)


def allow_idle_transactions() -> None:
    """Exempt the connections of this process without a separate limit, for code that computes in a transaction."""
    _defaults_ms.pop(_IDLE_TIMEOUT, None)


def lock_if_free(rows: QuerySet[Row]) -> QuerySet[Row]:
    """Lock the rows that no other transaction holds, and leave out the others. SQLite has no locks of rows."""
    skip_locked = default_connection.features.has_select_for_update_skip_locked
    return rows.select_for_update(no_key=True, skip_locked=skip_locked)


def _limit(name: str, seconds: float) -> None:
    connection = connections[DEFAULT_DB_ALIAS]
    _own_limits_ms.setdefault(connection, {})[name] = _ms(seconds)
    if _is_limited(connection) and not connection.in_atomic_block:
        connection.close()


def _on_connect(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if not _is_limited(connection):
        return
    with connection.cursor() as cursor:
        # Services lock rows. With a stricter level, concurrent changes would fail with "could not serialize access".
        cursor.execute("SET default_transaction_isolation = 'read committed'")
    if connection not in _migrating:
        _apply(connection)


def _on_migrate(using: str, **_: Any) -> None:
    connection = connections[using]
    if _is_limited(connection) and connection not in _migrating:
        _migrating.add(connection)
        with connection.cursor() as cursor:
            cursor.execute(_RESET)


def _on_migrated(using: str, **_: Any) -> None:
    connection = connections[using]
    if connection in _migrating:
        _migrating.discard(connection)
        _apply(connection)


def _apply(connection: BaseDatabaseWrapper) -> None:
    limits_ms = {**_defaults_ms, **_own_limits_ms.get(connection, {})}
    with connection.cursor() as cursor:
        cursor.execute(_SET, [list(limits_ms), [str(limit_ms) for limit_ms in limits_ms.values()]])


def _is_limited(connection: BaseDatabaseWrapper) -> bool:
    return connection.vendor == "postgresql" and connection.alias == DEFAULT_DB_ALIAS


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
