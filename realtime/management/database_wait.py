"""A database that is away for a while is waited for, and whoever watches is told so."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from django.db import Error as DatabaseError

from orchestration.db.retry import Value, call_until_available

PAUSE_SECONDS: Final = 0.1


class Patience:
    """Asks again for as long as it takes: whoever watches ends it.

    Args:
        write: Takes a line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._database_answers = True

    def ask(self, query: Callable[[], Value]) -> Value:
        """Call `query` until the database answers, and return what it returns. It must not mind to be called again.

        Raises:
            django.db.Error: the database answers, and refuses what it was asked.
        """
        found = call_until_available(query, when_away=self._wait)
        self._tell(answers=True)
        return found

    def _wait(self, _error: DatabaseError) -> None:
        self._tell(answers=False)
        time.sleep(PAUSE_SECONDS)

    def _tell(self, *, answers: bool) -> None:
        if answers is not self._database_answers:
            self._write("The database answers again" if answers else "The database does not answer: waiting for it")
        self._database_answers = answers
