"""One query for everyone who asks at the same time.

A status query costs mostly its way into a database thread and back, and Django's making of the SQL. Under load many
clients ask at once: those who ask while a query is under way share the next one. Nobody is answered from a query that
began before it asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from realtime.database import in_database_thread

K = TypeVar("K")
V = TypeVar("V")

MAX_KEYS_PER_QUERY = 500
"""How many keys one query asks for; SQLite takes no more than 999 parameters in some builds."""


class Batched(Generic[K, V]):
    """Looks up values by key, for one event loop.

    Args:
        query: Finds the values of some keys, in a database thread; what it leaves out is None.
    """

    def __init__(self, query: Callable[[list[K]], Mapping[K, V]]) -> None:
        self._query = query
        self._asked: dict[K, asyncio.Future[V | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """The value of `key`, as it is now or later; whatever the query raises."""
        answer = self._asked.get(key)
        if answer is None:
            answer = self._asked[key] = asyncio.get_running_loop().create_future()
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(answer)

    async def _ask(self) -> None:
        try:
            while self._asked:
                keys = list(self._asked)[:MAX_KEYS_PER_QUERY]
                answers = [self._asked.pop(key) for key in keys]
                try:
                    found = await in_database_thread(self._query, keys)
                except Exception as error:
                    for answer in answers:
                        answer.set_exception(error)
                        answer.exception()  # Whoever asked may be gone: then nobody else will look at it.
                else:
                    for key, answer in zip(keys, answers, strict=True):
                        answer.set_result(found.get(key))
        finally:
            self._asking = None
