"""How the database executes a query."""

from __future__ import annotations

import json
from typing import Any

from django.apps import apps
from django.db import connection


def collect_statistics() -> None:
    """Collect the statistics of this project's tables, by which the database chooses a plan.

    On Postgres, a plain ANALYZE also locks the catalogs that all databases share, until the transaction ends: another
    process of the tests would wait for it, although it has another database.
    """
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("ANALYZE")
            return
        models = [*apps.get_app_config("orchestration").get_models(), *apps.get_app_config("realtime").get_models()]
        cursor.execute(f"ANALYZE {', '.join(connection.ops.quote_name(model._meta.db_table) for model in models)}")


def explain(statement: str) -> str:
    """Return the query plan of a statement, as the database prints it. Postgres needs a transaction for this."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}")
            return "; ".join(detail for *_, detail in cursor.fetchall())
        # Without these scans Postgres reads an index in order where one exists, even for a small table.
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}")
        found: list[Any] = cursor.fetchone()
        return json.dumps(found)
