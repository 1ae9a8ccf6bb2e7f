"""How the database executes a query."""

from __future__ import annotations

import json
from typing import Any

from django.db import connection


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
