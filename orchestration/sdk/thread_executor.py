"""The thread that has the database connection of a stage does what other threads of the stage ask of it.

Django refuses the database to code on an event loop, and gives each thread and each task a connection of its own. So a
coroutine runs on a loop in another thread, and what its context has to read or write is done in this one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

Value = TypeVar("Value")


class CallingThreadExecutor:
    """The thread that made it. Anybody may ask it to do something while it runs a coroutine."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread_id = threading.get_ident()
        self._serves = False

    def do(self, call: Callable[[], Value]) -> Value:
        """Return what the call returns, or raise what it raises; it is made in this thread if that runs a coroutine."""
        if not self._serves or threading.get_ident() == self._thread_id:
            return call()
        answer: Future[Value] = Future()
        self._asked.put((answer, call))
        return answer.result()

    def run(self, coroutine: Awaitable[Value]) -> Value:
        """Run a coroutine on an event loop in a thread of its own, and do meanwhile what is asked for."""
        ended: Future[Value] = Future()

        async def main() -> Value:
            return await coroutine

        def run_loop() -> None:
            try:
                ended.set_result(asyncio.run(main()))
            except BaseException as error:
                ended.set_exception(error)
            self._asked.put(None)

        thread = threading.Thread(target=run_loop, name="event loop of a stage", daemon=True)
        self._serves = True
        try:
            thread.start()
            while (asked := self._asked.get()) is not None:
                _answer(*asked)
            thread.join()
        finally:
            self._serves = False
        return ended.result()


def _answer(answer: Future[Any], call: Callable[[], Any]) -> None:
    try:
        answer.set_result(call())
    except BaseException as error:
        answer.set_exception(error)
