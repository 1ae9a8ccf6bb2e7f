"""Compile a statement once with Django, and bind new values to the same SQL afterwards.

Building a query is most of the cost of a short transaction. A stage of the engine on SQLite took 10.9 ms of CPU time,
of which the database took 1.1 ms; with compiled statements a stage takes 3.2 ms. Django still writes the SQL, prepares
each value and converts each column. Use this only for statements that every stage or every worker executes.

This module uses private API of Django. Only models, services and the scheduler import it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Generic, TypeVar

from django.db import DatabaseError, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import query as django_query
from django.db.models.expressions import Expression
from django.db.models.signals import post_save, pre_save

Row = TypeVar("Row", bound=models.Model)

Parameter = int | str | datetime

# Placeholder values. Each differs from every other value of a query, and the integers fit every integer column.
_MARKERS: dict[type[Parameter], Callable[[int], Parameter]] = {
    int: lambda number: 2_000_000_000 + number,
    str: lambda number: f"the value of parameter {number}",
    datetime: lambda number: datetime(1970, 1, 1, microsecond=number, tzinfo=UTC),
}

# Private API of Django; the type stubs describe a later version.
_related_populators: Any = django_query.get_related_populators

_MAX_STATEMENTS = 512
"""How many compiled statements are kept. Each set of columns that is written together needs one."""


class KeyIn(models.Func):
    """Whether the key of a row is in a JSON array, for `filter()`: one compiled statement finds any number of rows."""

    output_field = models.BooleanField()

    def __init__(self, array: str) -> None:
        super().__init__(models.F("pk"), models.Value(array))

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self._as_sql(compiler, "{} IN (SELECT value FROM json_each({}))")

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        key: Any = self.source_expressions[0]
        array = f"SELECT value::{key.target.rel_db_type(connection)} FROM json_array_elements_text({{}}::json)"
        # Not `IN`: the planner uses the index for an array, also before it has statistics.
        return self._as_sql(compiler, f"{{}} = ANY (ARRAY ({array}))")

    def _as_sql(self, compiler: Any, template: str) -> tuple[str, tuple[Any, ...]]:
        (key, _), (array, params) = (compiler.compile(each) for each in self.source_expressions)
        return template.format(key, array), tuple(params)


class CompiledSelect(Generic[Row]):
    """A query for rows of a model, with parameters that change from call to call.

    Args:
        build: Returns the query for given values. It is called once for each database, with placeholder values.
        kinds: The type of each parameter.
    """

    def __init__(self, build: Callable[..., models.QuerySet[Row]], *kinds: type[Parameter]) -> None:
        self._build = build
        self._markers = [_MARKERS[kind](number) for number, kind in enumerate(kinds)]
        self._compiled: dict[str, _Select] = {}

    def rows(self, *values: Parameter, using: str = "default") -> list[Row]:
        """Return the rows for these values."""
        if using not in self._compiled:
            self._compiled[using] = _Select(self._build(*self._markers).using(using), self._markers, using)
        return self._compiled[using].rows(values)

    def row(self, *values: Parameter, using: str = "default") -> Row | None:
        """Return the first row for these values, if any."""
        return next(iter(self.rows(*values, using=using)), None)


class _Select:
    """The compiled statement. It holds no connection, because it outlives threads and connections belong to threads."""

    def __init__(self, queryset: models.QuerySet[Any], markers: Sequence[Any], using: str) -> None:
        self._using = using
        self._model: type[Any] = queryset.model
        compiler: Any = queryset.query.get_compiler(using)
        self._sql, params = compiler.as_sql()
        markers = [self._prepared(marker) for marker in markers]
        # For each placeholder of the SQL: (index of its parameter, None), or (None, constant).
        self._places = [(markers.index(param), None) if param in markers else (None, param) for param in params]
        if {place for place, _ in self._places if place is not None} != set(range(len(markers))):
            raise ValueError(f"{self._sql}: expected each of the {len(markers)} parameters in it, unchanged")
        select, info = compiler.select, compiler.klass_info
        self._positions = list(info["select_fields"])
        self._fields = [select[position][0].target.attname for position in self._positions]
        self._related = _related_populators(info, select, using)
        self._annotations = dict(compiler.annotation_col_map)
        converters = compiler.get_converters([expression for expression, _, _ in select])
        self._converters = [
            (position, *_by_owner(functions, compiler.connection.ops), expression)
            for position, (functions, expression) in converters.items()
        ]

    def rows(self, values: Sequence[Parameter]) -> list[Any]:
        prepared = [self._prepared(value) for value in values]
        params = [constant if place is None else prepared[place] for place, constant in self._places]
        connection = connections[self._using]
        with connection.cursor() as cursor:
            cursor.execute(self._sql, params)
            found: Iterable[Any] = cursor.fetchall()
        if self._converters:
            found = self._converted(found, connection)
        return [self._instance(row) for row in found]

    def _converted(self, rows: Iterable[Sequence[Any]], connection: BaseDatabaseWrapper) -> Iterator[Sequence[Any]]:
        # As `django.db.models.sql.compiler.SQLCompiler.apply_converters` does.
        ops = connection.ops
        for row in map(list, rows):
            for position, of_database, of_field, expression in self._converters:
                value = row[position]
                for convert in of_database:
                    value = convert(ops, value, expression, connection)
                for convert in of_field:
                    value = convert(value, expression, connection)
                row[position] = value
            yield row

    def _prepared(self, value: Parameter) -> Any:
        """Convert a value to what the database driver expects."""
        if isinstance(value, datetime):
            return connections[self._using].ops.adapt_datetimefield_value(value)
        return value

    def _instance(self, row: Sequence[Any]) -> Any:
        # As `django.db.models.query.ModelIterable` does.
        instance = self._model.from_db(self._using, self._fields, [row[position] for position in self._positions])
        for related in self._related:
            related.populate(row, instance)
        for name, position in self._annotations.items():
            setattr(instance, name, row[position])
        return instance


def _by_owner(converters: Iterable[Any], ops: Any) -> tuple[list[Any], list[Any]]:
    """Split converters into those of the connection and those of fields, in the order in which Django calls them.

    Those of the connection are unbound, so that they work with the `ops` of any connection.
    """
    of_database = [each.__func__ for each in converters if getattr(each, "__self__", None) is ops]
    of_field = [each for each in converters if getattr(each, "__self__", None) is not ops]
    return of_database, of_field


def update_row(row: models.Model, *, update_fields: Iterable[str], using: str) -> None:
    """Write columns of a stored row, named by attribute (`pool_id`). Its related rows must be stored.

    Raises:
        DatabaseError: if the row is no longer stored.
    """
    model = type(row)
    columns = frozenset(update_fields)
    if not columns:
        return
    sql, fields = update_statement(model, columns, using)
    values = [field.pre_save(row, add=False) for field in fields]
    has_receivers = pre_save.has_listeners(model) or post_save.has_listeners(model)
    if has_receivers or any(hasattr(value, "resolve_expression") for value in values):
        # Fall back to Django when its save signals have receivers or a value is an expression.
        models.Model.save(row, force_update=True, using=using, update_fields=columns)
        return
    connection = connections[using]
    prepared = [field.get_db_prep_save(value, connection) for field, value in zip(fields, values, strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(sql, [*prepared, row.pk])
        if cursor.rowcount != 1:
            raise DatabaseError(f"{row!r} is no longer stored; expected to update one row of {model._meta.label}")


@lru_cache(maxsize=_MAX_STATEMENTS)
def update_statement(
    model: type[models.Model], columns: frozenset[str], using: str
) -> tuple[str, list[models.Field[Any, Any]]]:
    """Return the statement that writes columns of one row, and their fields in its order; the key is last."""
    quote: Any = connections[using].ops.quote_name
    fields = [field for field in model._meta.concrete_fields if field.attname in columns]
    assigned = ", ".join(f"{quote(field.column)} = %s" for field in fields)
    key = quote(model._meta.pk.column)
    return f"UPDATE {quote(model._meta.db_table)} SET {assigned} WHERE {key} = %s", fields


Expressions = tuple[tuple[str, Expression], ...]


def add_to_row(
    model: type[models.Model],
    pk: Any,
    *,
    amounts: Mapping[str, int],
    values: Mapping[str, Any],
    using: str,
    expressions: Expressions = (),
    unless: str = "",
) -> None:
    """Add amounts to counters of one row, and set other columns to values or to expressions of the row.

    Nothing changes if the column `unless` is true.
    """
    connection = connections[using]
    sql, fields = _addition_statement(model, tuple(amounts), tuple(values), expressions, unless, using)
    set_to = [field.get_db_prep_save(value, connection) for field, value in zip(fields, values.values(), strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(sql, [*amounts.values(), *set_to, pk])


@lru_cache(maxsize=_MAX_STATEMENTS)
def _addition_statement(
    model: type[models.Model],
    counters: tuple[str, ...],
    columns: tuple[str, ...],
    expressions: Expressions,
    unless: str,
    using: str,
) -> tuple[str, list[models.Field[Any, Any]]]:
    query: Any = model._base_manager.using(using).query
    compiler: Any = query.get_compiler(using)
    quote: Any = connections[using].ops.quote_name
    fields: list[Any] = [model._meta.get_field(name) for name in columns]
    assigned = [f"{quote(name)} = {quote(name)} + %s" for name in counters]
    assigned += [f"{quote(field.column)} = %s" for field in fields]
    for name, expression in expressions:
        sql, params = compiler.compile(expression.resolve_expression(query, allow_joins=False))
        if params:
            raise ValueError(f"{expression!r}: expected an expression without parameters")
        assigned.append(f"{quote(name)} = {sql}")
    condition = f" AND NOT {quote(unless)}" if unless else ""
    where = f"{quote(model._meta.pk.column)} = %s{condition}"
    return f"UPDATE {quote(model._meta.db_table)} SET {', '.join(assigned)} WHERE {where}", fields
