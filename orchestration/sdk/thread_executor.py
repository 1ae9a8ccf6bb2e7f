"""Run database calls of a stage in the thread that has its database connection.

Django refuses database access on an event loop, and each thread and each task has a separate connection. So a
coroutine runs on an event loop in a second thread, and its database calls run in the first. If a stage itself runs an
event loop in the first thread (`asyncio.run`), that loop is suspended during a call.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

Value = TypeVar("Value")

_Calls = SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]


class CallingThreadExecutor:
    """Executes calls in the thread that created it, while that thread waits for a coroutine."""

    def __init__(self) -> None:
        self._thread_id = threading.get_ident()
        self._process_id = os.getpid()
        self._lock = threading.Lock()
        self._calls: _Calls | None = None

    def run(self, call: Callable[[], Value]) -> Value:
        """Return what the call returns, or raise what it raises.

        The call runs in the executor's thread while that thread waits in `run_coroutine`, otherwise in the current
        thread. There it may use the database, even if an event loop is running.
        """
        future = self._submit(call)
        return _call_outside_event_loop(call) if future is None else future.result()

    async def run_async(self, call: Callable[[], Value]) -> Value:
        """Do the same on an event loop. If its thread is not that of the executor, the loop continues meanwhile."""
        future = self._submit(call)
        if future is None:
            return _call_outside_event_loop(call)
        # A call that has begun is finished, also if the task that waits for it is cancelled.
        return await asyncio.shield(asyncio.wrap_future(future))

    def run_coroutine(self, coroutine: Awaitable[Value]) -> Value:
        """Run a coroutine on an event loop in another thread, and execute calls in this one until it ends."""
        result: Future[Value] = Future()
        calls: _Calls = SimpleQueue()

        async def main() -> Value:
            return await coroutine

        def run_loop() -> None:
            try:
                result.set_result(asyncio.run(main()))
            except BaseException as error:
                result.set_exception(error)
            stop_accepting()

        def stop_accepting() -> None:
            # A thread that the stage has left may still call. Each call is either before the end of the queue or
            # refused.
            with self._lock:
                self._calls = None
                calls.put(None)

        thread = threading.Thread(target=run_loop, name="stage-event-loop", daemon=True)
        self._calls = calls
        try:
            thread.start()
            while (queued := calls.get()) is not None:
                _execute(*queued)
            thread.join()
        finally:
            stop_accepting()
        return result.result()

    def _submit(self, call: Callable[[], Value]) -> Future[Value] | None:
        """Queue a call for the executor's thread. Return None if that thread does not wait for calls."""
        if threading.get_ident() == self._thread_id or os.getpid() != self._process_id:
            return None  # A forked process has no copy of the thread.
        with self._lock:
            if self._calls is None:
                return None
            future: Future[Value] = Future()
            self._calls.put((future, call))
            return future


def _execute(future: Future[Any], call: Callable[[], Any]) -> None:
    try:
        future.set_result(_call_outside_event_loop(call))
    except BaseException as error:
        future.set_exception(error)


def _call_outside_event_loop(call: Callable[[], Value]) -> Value:
    """Make a call while this thread seems to run no event loop. The loop's tasks wait until the call returns.

    The call uses the connection of the thread. Another thread would have a second connection, which waits for the
    transaction of the first.
    """
    loop = asyncio._get_running_loop()
    if loop is None:
        return call()
    asyncio._set_running_loop(None)
    try:
        return call()
    finally:
        asyncio._set_running_loop(loop)
