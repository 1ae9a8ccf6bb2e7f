"""Run `manage.py emit_test_event` in tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from realtime.events.types import EVENT_TYPES
from tests.harness.commands import command
from tests.harness.matchers import A_TIME
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import MahavishnuServer


def emit(server: MahavishnuServer, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
    return command(server, "emit_test_event", *arguments, input=input)


def emit_lines(
    server: MahavishnuServer, *lines: Any, run: Callable[..., subprocess.CompletedProcess[str]] = command
) -> list[dict[str, Any]]:
    """Emit the lines with --stdin and return the acknowledgements. There must be no error output."""
    done = run(server, "emit_test_event", "--stdin", input="".join(f"{json.dumps(line)}\n" for line in lines))
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def emit_process(server: MahavishnuServer) -> Iterator[subprocess.Popen[str]]:
    """Start the command with --stdin, and with pipes for its input and output."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "manage.py", "emit_test_event", "--stdin"],
        cwd=PROJECT_DIR,
        env=server.environment,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )
    with process:
        yield process


def sample_data(name: str, ids: dict[str, str]) -> dict[str, Any]:
    """Return the data of an event that was emitted with these ids only."""
    struct = EVENT_TYPES[name]
    return {f"{kind}_id": ids[kind] for kind in struct.rooms_from} | {
        **{key: value for key, value in struct.sample.items() if key.removesuffix("_id") not in struct.rooms_from},
        "timestamp": A_TIME,
        "test": True,
    }
