"""Durable steps inside a stage: calls whose output is stored, so that a later attempt does not repeat them."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol

from orchestration.limits import engine_limits
from orchestration.sdk.json_values import to_builtins
from orchestration.sdk.outcome import checked_output
from orchestration.sdk.stage_errors import StageFailed
from orchestration.sdk.thread_executor import CallingThreadExecutor
from orchestration.services import (
    AttemptEnded,
    InvalidArgument,
    StepConflict,
    StepReport,
    StoredStep,
    TooManySteps,
    find_step,
    report_step,
    store_step,
)


class StepRefused(StageFailed):
    """A step is used in a way that cannot work. Another attempt would fail too."""

    def __init__(self, message: str) -> None:
        super().__init__(message, may_retry=False)


class StaleAttempt(StageFailed):
    """The attempt has ended, although its process still runs: a newer one may have begun. It stores no steps."""


class StepStore(Protocol):
    """Where steps are stored: the database, or the memory of a test."""

    def find(self, name: str, arguments_digest: str) -> StoredStep | None:
        """Return the completed step; None if it must be executed."""

    def store(self, name: str, arguments_digest: str, output: Any, *, report: StepReport | None) -> StoredStep:
        """Store what the step returned."""

    def report(self, report: StepReport) -> None:
        """Notify subscribers of a step that is stored. Never raises."""

    async def run_async(self, call: Callable[[], Any]) -> Any:
        """Make one of these calls on an event loop."""


class DatabaseSteps:
    """The stored steps of a stage, for one attempt."""

    def __init__(
        self,
        stage_id: int,
        attempt: int,
        *,
        query: Callable[[Callable[[], Any]], Any],
        report: Callable[[Callable[[], object]], None],
        executor: CallingThreadExecutor,
    ) -> None:
        self._stage_id = stage_id
        self._attempt = attempt
        self._query = query
        self._report = report
        self.run_async = executor.run_async

    def find(self, name: str, arguments_digest: str) -> StoredStep | None:
        """Return the completed step; None if it must be executed."""
        found: StoredStep | None = self._query(
            lambda: find_step(
                self._stage_id,
                self._attempt,
                name=name,
                arguments_digest=arguments_digest,
                max_steps=engine_limits().max_steps,
            )
        )
        return found

    def store(self, name: str, arguments_digest: str, output: Any, *, report: StepReport | None) -> StoredStep:
        """Store what the step returned. A short outage of the database does not lose it."""
        size_bytes = len(json.dumps(output, ensure_ascii=False).encode())
        stored: StoredStep = self._query(
            lambda: store_step(
                self._stage_id,
                self._attempt,
                name=name,
                arguments_digest=arguments_digest,
                output=output,
                output_bytes=size_bytes,
                report=report,
            )
        )
        return stored

    def report(self, report: StepReport) -> None:
        """Notify subscribers of a step that is stored."""
        self._report(lambda: report_step(self._stage_id, self._attempt, report=report))


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    arguments_digest: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def begin(self) -> Any:
        return self.function(*self.args, **self.kwargs)


_executing: ContextVar[tuple[str, ...]] = ContextVar("steps that this call is a part of", default=())


class StageSteps:
    """The steps of one attempt."""

    def __init__(self, store: StepStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        # Calls with one name are made one after another, so that the second finds what the first has stored.
        self._thread_locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self._loop_locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._names: set[str] = set()
        self._completed = 0
        self._reported_at = 0.0
        self._pending: StepReport | None = None

    def call(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the output of a step, or on an event loop an awaitable for it."""
        call = _Call(name, _digest(name, args, kwargs), function, args, kwargs)
        if name in _executing.get():
            raise StepRefused(f"Step {name} calls itself: expected another name for a step inside a step.")
        if asyncio._get_running_loop() is not None:
            return self._execute_on_loop(call)
        if inspect.iscoroutinefunction(function):
            raise StepRefused(f"Step {name} is a coroutine function: {_USE_AWAIT}")
        return self._execute(call)

    def flush(self) -> None:
        """Send the report that the throttle has held back."""
        with self._lock:
            pending, self._pending = self._pending, None
        if pending is not None:
            self._store.report(pending)

    def _execute(self, call: _Call) -> Any:
        with self._thread_lock(call.name), self._admitted(call.name):
            found = self._find(call)
            if found is None:
                with _inside(call.name):
                    output = call.begin()
                if inspect.isawaitable(output):
                    _close(output)
                    raise StepRefused(
                        f"Step {call.name} returned a coroutine: use await ctx.step(…) in an async stage."
                    )
                return self._store_new(call, output)
            if (report := self._report(call.name, cached=True)) is not None:
                self._store.report(report)
            return found.output

    async def _execute_on_loop(self, call: _Call) -> Any:
        run = self._store.run_async
        async with self._loop_locks[call.name]:
            with self._admitted(call.name):
                found: StoredStep | None = await run(lambda: self._find(call))
                if found is None:
                    with _inside(call.name):
                        output = await _awaited(call)
                    return await run(lambda: self._store_new(call, output))
                if (report := self._report(call.name, cached=True)) is not None:
                    await run(lambda: self._store.report(report))
                return found.output

    def _find(self, call: _Call) -> StoredStep | None:
        with _refusals():
            return self._store.find(call.name, call.arguments_digest)

    def _store_new(self, call: _Call, output: Any) -> Any:
        checked = checked_output(output, max_bytes=engine_limits().max_result_bytes, returned_by=f"Step {call.name}")
        report = self._report(call.name, cached=False)
        with _refusals():
            return self._store.store(call.name, call.arguments_digest, checked, report=report).output

    def _thread_lock(self, name: str) -> threading.RLock:
        with self._lock:
            return self._thread_locks[name]

    @contextmanager
    def _admitted(self, name: str) -> Iterator[None]:
        """Count the step, stored or not: the store knows none of the steps that are executed at the same time."""
        with _refusals(), self._lock:
            if name not in self._names and len(self._names) >= (max_steps := engine_limits().max_steps):
                raise TooManySteps(name, max_steps)
            self._names.add(name)
        try:
            yield
        except BaseException:
            self._names.discard(name)
            raise

    def _report(self, name: str, *, cached: bool) -> StepReport | None:
        """Count a completed step. Return its report if one may be sent now; else it is held back."""
        now = time.monotonic()
        with self._lock:
            self._completed += 1
            report = StepReport(name=name, cached=cached, steps_completed=self._completed)
            if now - self._reported_at < engine_limits().progress_interval_seconds:
                self._pending = report
                return None
            self._reported_at = now
            self._pending = None
            return report


async def _awaited(call: _Call) -> Any:
    if inspect.iscoroutinefunction(call.function):
        return await call.begin()
    # A plain function would block the loop. It may return an awaitable, as a lambda around a coroutine function does.
    output = await asyncio.to_thread(call.begin)
    return await output if inspect.isawaitable(output) else output


@contextmanager
def _inside(name: str) -> Iterator[None]:
    token = _executing.set((*_executing.get(), name))
    try:
        yield
    finally:
        _executing.reset(token)


@contextmanager
def _refusals() -> Iterator[None]:
    """Raise errors that fail the stage with their message alone."""
    try:
        yield
    except (InvalidArgument, StepConflict, TooManySteps) as error:
        raise StepRefused(str(error)) from error
    except AttemptEnded as error:
        raise StaleAttempt(str(error)) from error


def _close(awaitable: Awaitable[Any]) -> None:
    if inspect.iscoroutine(awaitable):
        awaitable.close()


_USE_AWAIT: Final = "use await ctx.step(…) in an async stage."

_NOT_JSON: Final = (
    "its arguments cannot be compared with those of an earlier attempt, because they are not JSON ({error}). Pass only "
    "what decides the result, and the rest in a closure: ctx.step({name!r}, lambda question: ask(client, question), …)"
)


def _digest(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return what distinguishes the arguments of a step from others: SHA-256 of their JSON.

    Raises:
        StepRefused: if they are not JSON.
    """
    try:
        encoded = json.dumps(to_builtins([list(args), kwargs]), sort_keys=True)
    except Exception as error:
        # They may be any objects, whose copy may raise anything.
        raise StepRefused(f"Step {name}: {_NOT_JSON.format(name=name, error=error)}") from error
    return hashlib.sha256(encoded.encode()).hexdigest()
