"""`manage.py watch`: show the events of channels as they happen."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NoReturn, Self

from django.core.management.base import CommandError, CommandParser
from django.utils.timezone import localtime

from orchestration.db.clock import database_now
from orchestration.db.retry import retry_while_unavailable
from orchestration.management.arguments import duration
from orchestration.management.database_errors import readable_database_errors
from orchestration.management.service_errors import similar_workflow_ids
from orchestration.models import Workflow, WorkflowStatus
from orchestration.suggestions import did_you_mean, similar_names
from orchestration.text import escape_json, escape_line
from realtime.eventlog.position import Position
from realtime.events.types import EVENT_TYPES
from realtime.management.arguments import whole_number
from realtime.management.event_rows import event_row
from realtime.management.help import CommandWithEpilog
from realtime.management.log_follower import Delivery, LogFollower, position_before
from realtime.management.run_follower import EXIT_CODES
from realtime.management.server_address import page_url, workflow_url
from realtime.management.stream_display import StreamDisplay
from realtime.management.terminal import console_on, is_ascii_only
from realtime.protocol.channels import GLOBAL, InvalidChannel, check_channel, split_channel
from realtime.protocol.messages import encode_event
from realtime.protocol.requests import MAX_SEQ
from realtime.protocol.stream_messages import STREAM_PREFIX, parse_stream_channel

MAX_CHANNELS: Final = 20

_POLL_SECONDS: Final = 0.1

EPILOG = """
examples:
  manage.py watch                                            every event from now on
  manage.py watch workflow:wf_1 --since 0                    a run, from its beginning to its end
  manage.py watch pool:local worker:local-box-1
  manage.py watch --names workflow.failed,workflow.stage_failed --since 10m
  manage.py watch --names workflow.completed --limit 1       waits for one event
  manage.py watch --stream wf_1/answer/reply                 the text that a stage writes into a stream
  manage.py watch | jq -r .event                             JSON lines in a pipe: the messages of the WebSocket

On a terminal each event is a row: its time, what happened, what it is about, and details. In a pipe or a file it is one
line of JSON, as a subscriber of the channel receives it. The events come from the log in the database, so a restart of
the server does not matter. While the database is unavailable, the command waits for it and then continues without a
loss. Events that are pruned before they are read are reported on standard error.

With channels of workflows only, the command ends when all of these have finished. With --stream, it writes the chunks
of one stream as they come, until its stage has finished.

exit codes:
  0 after --limit events, or when all workflows completed; else that of the first one that did not: 3 failed,
  4 cancelled, 5 timed out; 130 Ctrl-C; 1 and 2: an argument is not valid, or the database cannot be used
"""


class Command(CommandWithEpilog):
    """Show events."""

    help = "Shows the events of channels as they happen: rows on a terminal, JSON lines in a pipe."
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "channels",
            nargs="*",
            type=channel,
            metavar="CHANNEL",
            help="global (the default), summary, workflow:ID, pool:ID or worker:ID.",
        )
        parser.add_argument(
            "--since",
            type=since,
            metavar="SEQ|10m",
            help="Begin after this position of the log, or this long ago (default: with the next event).",
        )
        parser.add_argument(
            "--names",
            type=names,
            metavar="NAME,...",
            help="Show only events with these names, such as workflow.failed.",
        )
        parser.add_argument(
            "--limit", type=whole_number(minimum=1, maximum=10**9), metavar="N", help="Stop after N events."
        )
        parser.add_argument(
            "--stream",
            type=stream_channel,
            metavar="ID/STAGE/NAME",
            help="Show this stream of a stage, not events.",
        )

    def handle(
        self,
        *args: Any,
        channels: Sequence[str],
        since: Callable[[Position], int] | None,
        names: frozenset[str] | None,
        limit: int | None,
        stream: str | None,
        **options: Any,
    ) -> None:
        if stream is not None:
            if channels or since or names or limit:
                raise CommandError("--stream cannot be combined with CHANNEL, --since, --names or --limit.")
            self.show_stream(stream)
        channels = list(dict.fromkeys(channels)) or [GLOBAL]
        if len(channels) > MAX_CHANNELS:
            raise CommandError(f"{len(channels)} channels: expected at most {MAX_CHANNELS}.")
        self.warn_about_unknown(names or frozenset())
        runs = WatchedRuns.of(channels)
        log = LogFollower(channels, begin_after=since or (lambda position: position.seq), report_gap=self.stderr_line)
        self.shown = 0
        self.is_ascii = is_ascii_only(self.stdout.stream)
        show = self.show_row if self.stdout.isatty() else self.write_json
        if self.stdout.isatty():
            self.console = console_on(self.stdout.stream)
            self.write_note(introduction(channels))

        code = 0

        def show_new() -> bool:
            """Show new events, and return whether these were the last ones. After an error, it continues there."""
            nonlocal code
            # Read the statuses first: events committed before a run has finished are then already in the log.
            finished_code = runs.finished_code() if runs is not None else None
            for delivery in log.poll():
                if names is None or delivery.event.name in names:
                    show(delivery)
                    self.shown += 1
                    if self.shown == limit:
                        return True
            self.stdout.flush()
            code = finished_code or 0
            return finished_code is not None

        try:
            with readable_database_errors():
                is_last = retry_while_unavailable(show_new, timeout_seconds=None, report=self.stderr_line)
                # The first poll has set the position: a run that is created from here on is shown from its beginning.
                for id in runs.missing() if runs is not None and not is_last else ():
                    suggestion = did_you_mean(similar_workflow_ids(id))
                    self.stderr_line(f"Workflow {id} not found; waiting for it.{suggestion}")
                while not is_last:
                    time.sleep(_POLL_SECONDS)
                    is_last = retry_while_unavailable(show_new, timeout_seconds=None, report=self.stderr_line)
            self.stdout.flush()
            sys.exit(code)
        except BrokenPipeError:
            # The reader has all that it wanted.
            self.stdout.discard()
        except KeyboardInterrupt:
            self.write_note(f"Stopped. Continue with --since {log.read_through}.")
            sys.exit(128 + signal.SIGINT)

    def show_stream(self, channel: str) -> NoReturn:
        """Show a stream, and exit."""
        try:
            with readable_database_errors():
                code = asyncio.run(StreamDisplay(self.stdout, self.stderr).show(channel))
            sys.exit(code)
        except BrokenPipeError:
            self.stdout.discard()
            sys.exit(0)
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)

    def show_row(self, delivery: Delivery) -> None:
        row = event_row(delivery.event, local_time=localtime(delivery.event.timestamp))
        text = row.render(ascii_only=self.is_ascii, columns=self.console.width)
        if row.is_failure:
            # Shown whole: the terminal wraps it.
            self.console.print(text, soft_wrap=True)
        else:
            self.console.print(text, no_wrap=True, overflow="crop")

    def write_json(self, delivery: Delivery) -> None:
        message = encode_event(delivery.event, room=delivery.channel).decode()
        self.stdout.write(escape_json(message, ascii_only=self.is_ascii))

    def stderr_line(self, line: str) -> None:
        self.stdout.flush()
        self.stderr.write(escape_line(line))

    def warn_about_unknown(self, names: frozenset[str]) -> None:
        for name in sorted(names - EVENT_TYPES.keys()):
            suggestion = did_you_mean(similar_names(name, EVENT_TYPES))
            self.stderr_line(f"No event of this server has the name {name}.{suggestion}")


@dataclass(frozen=True)
class WatchedRuns:
    """The runs of a command that watches nothing else: it ends when they have finished."""

    ids: list[str]

    @classmethod
    def of(cls, channels: Sequence[str]) -> Self | None:
        """Return the runs of these channels; None if a channel is not that of a run."""
        parts = [split_channel(each) for each in channels]
        return cls([id for _, id in parts]) if all(kind == "workflow" for kind, _ in parts) else None

    def missing(self) -> list[str]:
        """Return the ids that no run has, in their order."""
        return [id for id in self.ids if id not in self._statuses()]

    def finished_code(self) -> int | None:
        """Return the exit code of the first run that did not complete, or 0; None while a run is unfinished."""
        statuses = self._statuses()
        codes = [EXIT_CODES.get(WorkflowStatus(statuses[id])) for id in self.ids if id in statuses]
        if len(codes) < len(self.ids) or None in codes:
            return None
        return next(filter(None, codes), 0)

    def _statuses(self) -> dict[str, str]:
        return dict(Workflow.objects.filter(pk__in=self.ids).values_list("pk", "status"))


def introduction(channels: Sequence[str]) -> str:
    """Return the line above the rows: the channels, the page with the same content, and how to stop."""
    kind, id = split_channel(channels[0])
    page = workflow_url(id) if len(channels) == 1 and kind == "workflow" else page_url("events")
    return " - ".join(filter(None, [f"Watching {', '.join(channels)}", page, "Ctrl-C stops"]))


def channel(text: str) -> str:
    """Parse a channel."""
    try:
        return check_channel(text)
    except InvalidChannel as error:
        raise ArgumentTypeError(str(error)) from None


def stream_channel(text: str) -> str:
    """Parse the channel of a stream, with or without its prefix."""
    name = text if text.startswith(STREAM_PREFIX) else f"{STREAM_PREFIX}{text}"
    try:
        parse_stream_channel(name)
    except InvalidChannel as error:
        raise ArgumentTypeError(str(error)) from None
    return name


def names(text: str) -> frozenset[str]:
    """Parse names with commas between them."""
    found = frozenset(filter(None, (name.strip() for name in text.split(","))))
    if not found:
        raise ArgumentTypeError(f"{text!r}: expected names with commas between them, such as workflow.failed")
    return found


def since(text: str) -> Callable[[Position], int]:
    """Parse a position of the log or a duration. Return a function of the log's position at the start.

    That function raises CommandError for a position that the log has not reached.
    """
    if text.isascii() and text.isdecimal() and int(text) <= MAX_SEQ:
        seq = int(text)

        def begin(position: Position) -> int:
            if seq > position.seq:
                raise CommandError(f"--since {seq}: expected at most {position.seq}, the position of the log.")
            return seq

        return begin
    try:
        ago: timedelta = duration(text)
    except ArgumentTypeError:
        raise ArgumentTypeError(
            f"{text!r}: expected a position of the log, such as 42, or a duration, such as 45s, 10m, 12h or 1d"
        ) from None
    return lambda position: position_before(database_now() - ago, position)
