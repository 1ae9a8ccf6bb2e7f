"""`manage.py status`: whether everything runs, what it does, and what failed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

from django.core.management.base import CommandParser
from django.utils.timezone import localtime
from rich.text import Text

from orchestration.management.database_errors import readable_database_errors
from orchestration.text import escape_json, escape_line
from realtime.management.help import CommandWithEpilog
from realtime.management.installation_status import MAX_COUNT, InstallationStatus, installation_status
from realtime.management.run_lines import answer_command
from realtime.management.server_check import NOT_ANSWERING, NOT_RUNNING
from realtime.management.terminal import console_on, is_ascii_only
from realtime.protocol.payload import encode_data

NOT_HEALTHY: Final = 3
"""The exit code if the server does not run, or a part of it does not work."""

POOL_COLUMNS: Final = ("pool", "status", "workers", "busy", "idle", "queued", "running")

_STYLES: Final = {"healthy": "green", "up": "green", "draining": "yellow", "off": "yellow"}

EPILOG = """
examples:
  manage.py status
  manage.py status --json | jq .failed

It also works while no server runs: then the state is that in the database.

exit codes:
  0 the server runs and every part works, 3 it does not run or a part does not work, 1 the database cannot be used
"""


class Command(CommandWithEpilog):
    """Show the state of the installation."""

    help = (
        "Shows whether the server and its parts work, the pools with their workers, how many workflows run and wait, "
        "and which failed in the last 24 hours."
    )
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print one line of JSON.")

    def handle(self, *args: Any, json: bool, **options: Any) -> None:
        with readable_database_errors():
            status = installation_status()
        if json:
            self.stdout.write(escape_json(encode_data(status), ascii_only=is_ascii_only(self.stdout.stream)))
        else:
            console = console_on(self.stdout.stream)
            for line in lines_of(status, failed_sign="x" if is_ascii_only(self.stdout.stream) else "✕"):
                console.print(line, soft_wrap=True)
        if not status.is_healthy:
            sys.exit(NOT_HEALTHY)


def lines_of(status: InstallationStatus, *, failed_sign: str) -> Iterator[Text]:
    """Yield the lines for people."""
    server = status.server
    yield Text.assemble("Server     ", _styled(server.status), f"  {status.page}" if status.page else "")
    for problem in server.problems:
        yield Text(f"           {escape_line(problem)}", style="red")
    if server.status in (NOT_RUNNING, NOT_ANSWERING):
        yield Text("           What follows is the state in the database.")
    parts = {name: part for name, part in server.parts.items() if name != "scheduler"} | {"scheduler": status.scheduler}
    yield Text("Parts      ") + Text(", ").join(
        Text.assemble(f"{name} ", _styled(part)) for name, part in parts.items()
    )
    held = f" ({_counted(status.held)} held: no worker can take them)" if status.held else ""
    queued = sum(pool.queued for pool in status.pools)
    counts = f"{_counted(status.running)} running{held}, {_counted(status.pending)} pending"
    yield Text(f"Workflows  {counts}; {queued} {'stage' if queued == 1 else 'stages'} queued")
    yield from _pool_lines(status)
    if status.asked:
        yield Text(f"Questions that are open: {_counted(status.asked)}", style="yellow")
    for question in status.questions:
        time = localtime(question.opened_at).strftime("%H:%M:%S")
        to = f" (for {', '.join(question.recipients)})" if question.recipients else ""
        yield Text(
            escape_line(f"  ? {time} {question.workflow_id} {question.name}{to}: {question.title}"), style="yellow"
        )
        yield Text(escape_line(f"    {answer_command(question.workflow_id, question.name)}"))
    style = "bold red" if status.failed else ""
    yield Text(f"Failed in the last 24 hours: {_counted(status.failed)}", style=style)
    for failure in status.failures:
        time = localtime(failure.finished_at).strftime("%H:%M:%S")
        name = f" {failure.name}" if failure.name else ""
        yield Text(escape_line(f"  {failed_sign} {time} {failure.workflow_id}{name}: {failure.error}"), style="red")
        if failure.url:
            yield Text(f"    {failure.url}")


def _pool_lines(status: InstallationStatus) -> Iterator[Text]:
    rows: list[tuple[str, ...]] = [POOL_COLUMNS]
    for pool in status.pools:
        counts = (pool.workers, pool.busy, pool.idle, pool.queued, pool.running)
        rows.append((pool.pool_id, "open" if pool.status == "active" else pool.status, *map(str, counts)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = [
            cell.ljust(width) if index < 2 else cell.rjust(width) for index, (cell, width) in _indexed(row, widths)
        ]
        yield Text(f"  {'  '.join(cells)}".rstrip(), style="" if number else "dim")


def _indexed(row: tuple[str, ...], widths: list[int]) -> Iterator[tuple[int, tuple[str, int]]]:
    return enumerate(zip(row, widths, strict=True))


def _styled(word: str) -> Text:
    return Text(escape_line(word), style=_STYLES.get(word, "bold red"))


def _counted(count: int) -> str:
    return f"{count} or more" if count >= MAX_COUNT else str(count)
