"""Run database calls of a stage in the thread that has its database connection.

Django refuses database access on an event loop, and each thread and each task has a separate connection. So a
coroutine runs on an event loop in a second thread, and its database calls run in the first.
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
    """Executes calls in the thread that created it, while that thread waits for a coroutine."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread_id = threading.get_ident()
        self._accepts_calls = False

    def run(self, call: Callable[[], Value]) -> Value:
        """Return what the call returns, or raise what it raises.

        The call runs in the executor's thread while that thread waits in `run_coroutine`, otherwise in the current
        thread.
        """
        if not self._accepts_calls or threading.get_ident() == self._thread_id:
            return call()
        future: Future[Value] = Future()
        self._calls.put((future, call))
        return future.result()

    def run_coroutine(self, coroutine: Awaitable[Value]) -> Value:
        """Run a coroutine on an event loop in another thread, and execute calls in this one until it ends."""
        result: Future[Value] = Future()

        async def main() -> Value:
            return await coroutine

        def run_loop() -> None:
            try:
                result.set_result(asyncio.run(main()))
            except BaseException as error:
                result.set_exception(error)
            self._calls.put(None)

        thread = threading.Thread(target=run_loop, name="stage-event-loop", daemon=True)
        self._accepts_calls = True
        try:
            thread.start()
            while (queued := self._calls.get()) is not None:
                _execute(*queued)
            thread.join()
        finally:
            self._accepts_calls = False
        return result.result()


def _execute(future: Future[Any], call: Callable[[], Any]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)
