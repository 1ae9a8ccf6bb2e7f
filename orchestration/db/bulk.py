"""Insert and update many rows of a model in a few statements.

Only `orchestration.models.unit_of_work` and `realtime.eventlog.append` import this module. `bulk_create()` and
`bulk_update()` of Django take several times as long.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

from orchestration.db.compiled import update_statement

_FEW_ROWS = 10
"""One statement inserts so many, with a parameter for each value. For more rows, each database has a faster way."""

_PLAIN = frozenset({int, str, bool, type(None)})
"""Values of these types are as the database takes them, except in JSON columns."""


def insert_rows(rows: Sequence[models.Model], *, using: str) -> None:
    """Insert new rows of one model in their order. Rows with generated keys get them.

    Raises:
        IntegrityError: if a row with one of the keys exists.
    """
    model: Any = type(rows[0])
    key = model._meta.pk
    is_generated = rows[0].pk is None
    fields = [field for field in model._meta.concrete_fields if not (is_generated and field is key)]
    names = [field.attname for field in fields]
    values = [_values(row, fields) for row in rows]
    keys = insert_values(model, names, values, using=using, returns_keys=is_generated)
    for row, pk in zip(rows, keys, strict=is_generated):
        row.pk = pk
    for row in rows:
        row._state.adding = False
        row._state.db = using


def insert_values(
    model: type[models.Model],
    names: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    using: str,
    returns_keys: bool = False,
) -> list[int]:
    """Insert rows of a model in their order: the values of the named columns. Return their generated keys if asked to.

    Raises:
        IntegrityError: if a row with one of the keys exists.
    """
    if not rows:
        return []
    connection = connections[using]
    quote: Any = connection.ops.quote_name
    fields: list[Any] = [model._meta.get_field(name) for name in names]
    columns = ", ".join(quote(field.column) for field in fields)
    into = f"INSERT INTO {quote(model._meta.db_table)} ({columns})"
    placeholders = f"({', '.join(['%s'] * len(fields))})"
    end = f" RETURNING {quote(model._meta.pk.column)}" if returns_keys else ""
    with connection.cursor() as cursor:
        if len(rows) <= _FEW_ROWS:
            values = [value for row in rows for value in _prepared(row, fields, connection)]
            cursor.execute(f"{into} VALUES {', '.join([placeholders] * len(rows))}{end}", values)
        elif connection.vendor == "sqlite":
            cursor.executemany(f"{into} VALUES {placeholders}", [_prepared(row, fields, connection) for row in rows])
            if not returns_keys:
                return []
            # The transaction excludes other writers, so the keys are consecutive.
            cursor.execute("SELECT last_insert_rowid()")
            (last,) = cursor.fetchone()
            return list(range(last - len(rows) + 1, last + 1))
        else:
            records = _records(fields, connection)
            cursor.execute(f"{into} SELECT {columns} FROM {records} ORDER BY place{end}", [_json(rows, fields)])
        return sorted(key for (key,) in cursor.fetchall()) if returns_keys else []


def update_rows(rows: Sequence[models.Model], *, update_fields: frozenset[str], using: str) -> None:
    """Write the same columns of stored and locked rows of one model, named by attribute (`pool_id`)."""
    model = type(rows[0])
    connection = connections[using]
    sql, fields = update_statement(model, update_fields, using)
    every: list[Any] = [*fields, model._meta.pk]
    values = [_values(row, every) for row in rows]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.executemany(sql, [_prepared(row, every, connection) for row in values])
            return
        quote: Any = connection.ops.quote_name
        table = quote(model._meta.db_table)
        assigned = ", ".join(f"{quote(field.column)} = given.{quote(field.column)}" for field in fields)
        condition = f"{table}.{quote(every[-1].column)} = given.{quote(every[-1].column)}"
        records = _records(every, connection)
        cursor.execute(f"UPDATE {table} SET {assigned} FROM {records} WHERE {condition}", [_json(values, every)])


def _records(fields: Sequence[Any], connection: BaseDatabaseWrapper) -> str:
    """Return the rows in a JSON parameter as a table of Postgres, with a further column `place`."""
    names = [connection.ops.quote_name(field.column) for field in fields]
    types = [field.rel_db_type(connection) for field in fields]
    columns = ", ".join(f"{name} {type}" for name, type in zip(names, types, strict=True))
    records = f"ROWS FROM (json_to_recordset(%s::json) AS ({columns})) WITH ORDINALITY"
    return f"{records} AS given ({', '.join(names)}, place)"


def _json(rows: Sequence[Sequence[Any]], fields: Sequence[Any]) -> str:
    """Encode rows for `_records`. With a parameter for each value, Psycopg takes longer to parse the statement."""
    columns = [field.column for field in fields]
    return json.dumps([dict(zip(columns, row, strict=True)) for row in rows], default=_text)


def _text(value: object) -> str:
    if isinstance(value, datetime | UUID):
        return str(value)
    raise TypeError(f"{value!r}: expected a time or a UUID")


def _values(row: models.Model, fields: Sequence[Any]) -> list[Any]:
    return [getattr(row, field.attname) for field in fields]


def _prepared(values: Sequence[Any], fields: Sequence[Any], connection: BaseDatabaseWrapper) -> list[Any]:
    """Convert the values of a row to what the database driver expects."""
    prepared = []
    is_sqlite = connection.vendor == "sqlite"
    for value, field in zip(values, fields, strict=True):
        kind = type(value)
        if kind is datetime and is_sqlite:
            prepared.append(_time_on_sqlite(value))
        elif kind not in _PLAIN or (value is not None and type(field) is models.JSONField):
            prepared.append(field.get_db_prep_save(value, connection))
        else:
            prepared.append(value)
    return prepared


@lru_cache(maxsize=1000)
def _time_on_sqlite(value: datetime) -> str:
    """Return the time as Django stores it there. Many columns of many rows have the same one."""
    return str(value.astimezone(UTC).replace(tzinfo=None))
