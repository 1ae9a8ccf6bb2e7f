"""Insert and update many rows of a model in a few statements.

Only `orchestration.models.unit_of_work` imports this module. `bulk_create()` and `bulk_update()` of Django take several
times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

from orchestration.db.compiled import update_statement

_TEXT = "text"


_MAX_PARAMETERS = 30_000
"""SQLite allows 32,766 parameters in a statement, Postgres 65,535."""


def insert_rows(rows: Sequence[models.Model], *, using: str) -> None:
    """Insert new rows of one model in their order. Rows with generated keys get them.

    Raises:
        IntegrityError: if a row with one of the keys exists.
    """
    model = type(rows[0])
    connection = connections[using]
    quote: Any = connection.ops.quote_name
    key: Any = model._meta.pk
    is_generated = rows[0].pk is None
    fields: list[Any] = [field for field in model._meta.concrete_fields if not (is_generated and field is key)]
    into = f"{quote(model._meta.db_table)} ({', '.join(quote(field.column) for field in fields)})"
    end = f" RETURNING {quote(key.column)}" if is_generated else ""
    placeholders = f"({', '.join(['%s'] * len(fields))})"
    size = _MAX_PARAMETERS // len(fields)
    if connection.vendor == "sqlite":
        _insert_on_sqlite(rows, f"INSERT INTO {into} VALUES {placeholders}", fields, is_generated, connection)
    else:
        with connection.cursor() as cursor:
            for first in range(0, len(rows), size):
                part = rows[first : first + size]
                values = [value for row in part for value in _prepared(row, fields, connection)]
                cursor.execute(f"INSERT INTO {into} VALUES {', '.join([placeholders] * len(part))}{end}", values)
                if is_generated:
                    for row, pk in zip(part, sorted(pk for (pk,) in cursor.fetchall()), strict=True):
                        row.pk = pk
    for row in rows:
        row._state.adding = False
        row._state.db = using


def _insert_on_sqlite(
    rows: Sequence[models.Model], sql: str, fields: Sequence[Any], is_generated: bool, connection: BaseDatabaseWrapper
) -> None:
    """Execute one prepared statement for each row: there, that is faster than one for all of them."""
    with connection.cursor() as cursor:
        cursor.executemany(sql, [_prepared(row, fields, connection) for row in rows])
        if is_generated:
            # The transaction excludes other writers, so the keys are consecutive.
            cursor.execute("SELECT last_insert_rowid()")
            (last,) = cursor.fetchone()
            for row, pk in zip(rows, range(last - len(rows) + 1, last + 1), strict=True):
                row.pk = pk


def update_rows(rows: Sequence[models.Model], *, update_fields: frozenset[str], using: str) -> None:
    """Write the same columns of stored and locked rows of one model, named by attribute (`pool_id`)."""
    model = type(rows[0])
    connection = connections[using]
    if connection.vendor == "sqlite":
        sql, fields = update_statement(model, update_fields, using)
        with connection.cursor() as cursor:
            cursor.executemany(sql, [[*_prepared(row, fields, connection), row.pk] for row in rows])
        return
    fields = [field for field in model._meta.concrete_fields if field.attname in update_fields]
    every: list[Any] = [*fields, model._meta.pk]
    quote: Any = connection.ops.quote_name
    # Each value is cast: a column that is null in all rows has no type by itself.
    assigned = ", ".join(f"{quote(field.column)} = {_cast(field, connection)}" for field in fields)
    names = ", ".join(quote(field.column) for field in every)
    table = quote(model._meta.db_table)
    condition = f"{table}.{quote(every[-1].column)} = {_cast(every[-1], connection)}"
    placeholders = f"({', '.join(['%s'] * len(every))})"
    size = _MAX_PARAMETERS // len(every)
    with connection.cursor() as cursor:
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            values = [value for row in part for value in _prepared(row, every, connection)]
            given = f"(VALUES {', '.join([placeholders] * len(part))}) AS given ({names})"
            cursor.execute(f"UPDATE {table} SET {assigned} FROM {given} WHERE {condition}", values)


def _cast(field: Any, connection: BaseDatabaseWrapper) -> str:
    column_type = field.rel_db_type(connection)
    # A cast to `varchar(16)` cuts a longer text; an assignment of one is an error.
    return (
        f"CAST(given.{connection.ops.quote_name(field.column)} AS {_TEXT if 'varchar' in column_type else column_type})"
    )


def _prepared(row: models.Model, fields: Sequence[Any], connection: BaseDatabaseWrapper) -> list[Any]:
    values = []
    is_sqlite = connection.vendor == "sqlite"
    for field in fields:
        value = getattr(row, field.attname)
        kind = type(value)
        # Integers and nulls are as the database takes them, and texts except of JSON columns.
        if value is not None and kind is not int and (kind is not str or type(field) is models.JSONField):
            if kind is datetime and is_sqlite:
                value = _time_on_sqlite(value)
            else:
                value = field.get_db_prep_save(value, connection)
        values.append(value)
    return values


@lru_cache(maxsize=1000)
def _time_on_sqlite(value: datetime) -> str:
    """Return the time as Django stores it there. Many columns of many rows have the same one."""
    return str(value.astimezone(UTC).replace(tzinfo=None))
