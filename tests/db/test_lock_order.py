"""The lock order depends on this behavior of Postgres, which its manual does not state."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.errors import LockNotAvailable

TABLES = """
CREATE TABLE workflow (id int PRIMARY KEY);
CREATE TABLE stage (id int PRIMARY KEY, workflow_id int REFERENCES workflow);
INSERT INTO workflow VALUES (1);
INSERT INTO stage VALUES (1, 1);
"""
BOTH = """
SELECT * FROM stage JOIN workflow ON workflow.id = stage.workflow_id WHERE stage.id = 1
FOR NO KEY UPDATE OF {} NOWAIT
"""


@pytest.fixture
def connect(postgres_url: Callable[[], str]) -> Iterator[Callable[[], psycopg.Connection]]:
    url = postgres_url()
    opened: list[psycopg.Connection] = []

    def connect() -> psycopg.Connection:
        connection = psycopg.connect(url)
        opened.append(connection)
        return connection

    with psycopg.connect(url) as connection:
        connection.execute(TABLES)
    yield connect
    for connection in opened:
        connection.close()


@pytest.mark.parametrize(("order", "first"), [("workflow, stage", "workflow"), ("stage, workflow", "stage")])
def test_postgres_locks_the_tables_of_a_row_in_the_order_of_the_of_clause(
    order: str, first: str, connect: Callable[[], psycopg.Connection]
) -> None:
    holder, joiner = connect(), connect()
    # Another transaction holds both rows: the error names the row that was tried first.
    holder.execute("SELECT FROM workflow FOR NO KEY UPDATE")
    holder.execute("SELECT FROM stage FOR NO KEY UPDATE")
    with pytest.raises(LockNotAvailable, match=f'could not obtain lock on row in relation "{first}"'):
        joiner.execute(BOTH.format(order))
