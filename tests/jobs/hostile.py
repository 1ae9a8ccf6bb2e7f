"""Stages that leave behind what the engine must not suffer from."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from orchestration.models import Pool
from orchestration.sdk import Context, stage, workflow

_kept: list[Any] = []
"""What a stage has left behind: a module of a user may cache anything."""


@stage
def change_process(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Change the process, and return what the stage before it has left."""
    found = [
        *(len(os.environ) > 0, os.getcwd(), signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN),
        *(os.umask(0o077), socket.getdefaulttimeout(), resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        *(
            "left" in sys.path,
            asyncio._get_running_loop() is None,
            signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set(),
        ),
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    socket.setdefaulttimeout(0.001)
    sys.path.append("left")
    sys.stdout = None
    asyncio._set_running_loop(asyncio.new_event_loop())
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if inputs["prompt"] == "hard limit":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.nice(1)
    if inputs["prompt"] == "replace":
        os.environ = {}  # type: ignore[assignment] # noqa: B003
    else:
        os.environ.clear()
    assert not ctx.stopping()
    ctx.log("still here")
    return found


@workflow()
def changed_process(prompt: str) -> Any:
    return [change_process]


def _write() -> None:
    Pool.objects.filter(pk="no such pool").update(status="closed")


def _rows() -> Iterator[int]:
    with transaction.atomic():
        _write()
        yield from range(10)


def _hold_in_thread() -> None:
    began = threading.Event()

    def hold() -> None:
        with transaction.atomic():
            _write()
            began.set()
            time.sleep(600)

    threading.Thread(target=hold, daemon=True).start()
    began.wait()


@stage
def leave_transaction(ctx: Context, inputs: dict[str, Any]) -> str:
    match inputs["prompt"]:
        case "generator":
            rows = _rows()
            next(rows)
            _kept.append(rows)
        case "exit stack":
            stack = ExitStack()
            stack.enter_context(transaction.atomic())
            _kept.append(stack)
        case "no autocommit":
            transaction.set_autocommit(False)
            _write()
        case "begin":
            with connection.cursor() as cursor:
                cursor.execute("BEGIN")
            _write()
        case "thread":
            _hold_in_thread()
        case "error":
            _kept.append(next(_rows()))
            ExitStack().enter_context(transaction.atomic())
            raise LookupError("Its own error")
    return "done"


@workflow()
def left_transaction(prompt: str) -> Any:
    return [leave_transaction]


@stage
def change_session(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Change a setting of the session; the next stage must not see it."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA query_only")
            (before,) = cursor.fetchone()
            cursor.execute("PRAGMA query_only = 1")
        else:
            cursor.execute("SHOW statement_timeout")
            (before,) = cursor.fetchone()
            cursor.execute("SET statement_timeout = 1")
    return before


@workflow()
def changed_session(prompt: str) -> Any:
    return [change_session]


def _idle_timeout() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        return str(cursor.fetchone()[0])


@stage
def report_idle_timeouts(ctx: Context, inputs: dict[str, Any]) -> list[str]:
    """Return the timeout of the stage's connection and that of the engine's. Postgres only."""
    return [_idle_timeout(), ctx._query(_idle_timeout)]


@workflow()
def reported_idle_timeouts(prompt: str) -> Any:
    return [report_idle_timeouts]


@stage
def log_in_transaction(ctx: Context, inputs: dict[str, Any]) -> str:
    with transaction.atomic():
        _write()
        ctx.log("inside a transaction")
        ctx.progress(0.5)
    ctx.log("after it")
    return "done"


@workflow()
def logged_in_transaction(prompt: str) -> Any:
    return [log_in_transaction]


@stage
def fork_and_return(ctx: Context, inputs: dict[str, Any]) -> Any:
    pid = os.fork()
    if pid == 0:
        if inputs["prompt"] == "raises":
            raise LookupError("in the forked process")
        Pool.objects.exists()
        return "of the forked process"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@workflow()
def forked(prompt: str) -> Any:
    return [fork_and_return]


@stage
def terminate_itself(ctx: Context, inputs: dict[str, Any]) -> int:
    forked = os.fork()
    if forked == 0:
        time.sleep(600)
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(forked, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == -signal.SIGTERM
    return os.getpid()


@workflow()
def terminated(prompt: str) -> Any:
    return [terminate_itself]


@stage
def run_program(ctx: Context, inputs: dict[str, Any]) -> str:
    """Run a program that waits for the gate."""
    wait = f"until [ -e {inputs['gate']} ]; do sleep 0.05; done"
    subprocess.run(["sh", "-c", f"echo begins >> {inputs['journal']}; {wait}"], check=True)
    return "done"


@workflow()
def running_program(prompt: str, **params: Any) -> Any:
    return [run_program]


@stage
def checkpoint(ctx: Context, inputs: dict[str, Any]) -> int:
    """Count to `until` with a checkpoint after each number, and hand over when the worker stops."""
    file = Path(inputs["checkpoint"])
    while (count := int(file.read_text()) if file.exists() else 0) < inputs["until"]:
        if ctx.stopping():
            ctx.hand_over()
        time.sleep(inputs["pause_seconds"])
        file.write_text(str(count + 1))
    return count


@workflow()
def counting(prompt: str, **params: Any) -> Any:
    return [checkpoint]


@stage
def short(ctx: Context, inputs: dict[str, Any]) -> int:
    time.sleep(inputs["seconds"])
    with open(inputs["journal"], "a", encoding="utf-8") as journal:
        journal.write(f"{ctx.idempotency_key} {os.getpid()}\n")
    return os.getpid()


@workflow()
def short_stages(prompt: str, **params: Any) -> Any:
    return [short]
