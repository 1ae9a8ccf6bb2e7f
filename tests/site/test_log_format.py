"""The format of log lines: what clients and workflows write cannot begin a line of the log, or control a terminal."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable

import pytest

from mahavishnu_site.log_format import EscapingFormatter
from tests.connection.test_origin import handshake
from tests.harness.engine import CeleryWorker, Engine
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

FORGED = "2026-01-01 00:00:00,000 ERROR    root: forged"
EVIL = f"a\n{FORGED}\r\x1b]0;title\x07\x1b[2J\x85{FORGED}\u2028\u202ereversed\u202c\u200b\x9b31m"
ESCAPED = rf"a\n{FORGED}\r\x1b]0;title\x07\x1b[2J\x85{FORGED}\u2028\u202ereversed\u202c\u200b\x9b31m"


def record_with_traceback(message: str) -> logging.LogRecord:
    try:
        raise ValueError(message)
    except ValueError:
        return logging.LogRecord("shop", logging.ERROR, __file__, 1, "It failed: %s", (message,), sys.exc_info())


def formatted(record: logging.LogRecord) -> str:
    return EscapingFormatter("{levelname} {name}: {message}", style="{").format(record)


def test_record_is_one_line() -> None:
    record = logging.LogRecord("shop", logging.INFO, __file__, 1, "It is %s", (EVIL,), None)
    assert formatted(record) == f"INFO shop: It is {ESCAPED}"


def test_ordinary_text_is_not_changed() -> None:
    text = "naïve שלום مرحبا 東京 👩‍👩‍👧 ❤️ नमस्ते C:\\new"
    assert formatted(logging.LogRecord("shop", logging.INFO, __file__, 1, text, None, None)) == f"INFO shop: {text}"


def test_lines_of_a_traceback_have_a_prefix() -> None:
    first, *others = formatted(record_with_traceback(f"one\n{EVIL}")).split("\n")
    assert first == rf"ERROR shop: It failed: one\n{ESCAPED}"
    assert others[0] == "  | Traceback (most recent call last):"
    # The text of the exception has two line breaks.
    forged, rest = ESCAPED.split(r"\n")
    assert others[-3:] == ["  | ValueError: one", f"  | {forged}", f"  | {rest}"]
    assert all(line.startswith("  | ") for line in others)


def test_settings_format_every_handler_of_the_root_logger() -> None:
    names = {"console", "file"}
    configured = [handler for handler in logging.getLogger().handlers if handler.get_name() in names]
    assert [type(handler.formatter) for handler in configured] == [EscapingFormatter, EscapingFormatter]


def forged_lines(log: str) -> list[str]:
    """Return the lines that a client or a workflow began, and those that control a terminal."""
    lines = re.split(r"[\n\r\x85\u2028]", log)
    return [line for line in lines if line.startswith(FORGED) or re.search(r"[\x00-\x1f\x7f-\x9f\u202e]", line)]


def test_workflow_cannot_forge_a_log_line(engine: Engine, shared_worker: CeleryWorker) -> None:
    workflow_id = engine.start("look_around", pool=shared_worker.pool_id, prompt=EVIL)
    wait_until(lambda: engine.workflow(workflow_id)["status"] == "completed", timeout_seconds=60, what="the run")
    log = shared_worker.log_text()
    assert f"{workflow_id}/left: Looking left of {ESCAPED}" in log
    assert forged_lines(log) == []


@pytest.mark.parametrize("logger", ["celery.task", "multiprocessing"])
def test_loggers_of_celery_have_the_format_of_the_log(engine: Engine, shared_worker: CeleryWorker, logger: str) -> None:
    workflow_id = engine.start("logging_prompt", pool=shared_worker.pool_id, prompt=EVIL, logger=logger)
    wait_until(lambda: engine.workflow(workflow_id)["status"] == "completed", timeout_seconds=60, what="the run")
    log = shared_worker.log_text()
    (line,) = [line for line in log.splitlines() if workflow_id in line and f" {logger}: " in line]
    assert line.endswith(ESCAPED)
    assert forged_lines(log) == []


def test_client_cannot_forge_a_log_line(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    path = f"/{unique('path')}"
    own = f"{HOST}:{server.port}"
    evil = "%0A2026-01-01%2000:00:00,000%20ERROR%20%20%20%20root:%20forged%1B%5D0;t%07%C2%85%E2%80%AE"
    assert handshake(server, origin=None, host=own, path=f"{path}{evil}") == 403
    assert handshake(server, origin="http://evil.example/\x1b]0;t\x07\x9b2J\x85", host=own, path=path) == 403
    assert forged_lines(server.log_text()) == []
