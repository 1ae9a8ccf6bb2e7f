"""`manage.py emit_test_event`: broadcast events that no change of state caused, to try out clients."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from orchestration.management.database_errors import readable_database_errors
from realtime.events.samples import SampleEvent, UnusableEvent, sample_event
from realtime.events.types import EVENT_TYPES
from realtime.management.help import CommandWithEpilog
from realtime.management.server_check import server_problem
from realtime.management.stdin_lines import Line, read_batches
from realtime.protocol.messages import utc_now
from realtime.protocol.payload import decode_object, encode_data

MAX_LINE_BYTES = 1024 * 1024
MAX_LINES_PER_TRANSACTION = 500


_NAMES = "\n  ".join(EVENT_TYPES)

EPILOG = f"""
events of this server, whose missing fields are filled in:
  {_NAMES}

Any other name is sent with the data as given. One that begins with workflow., pool. or worker. needs an id, and goes
to the channel of that id, a worker's to that of its pool as well, and to global; any other goes to --room and global.

examples:
  manage.py emit_test_event workflow.started --id wf_abc123
  manage.py emit_test_event worker.status_changed --id worker_001 --data '{{"status": "busy"}}'
  manage.py emit_test_event deploy.finished --data '{{"version": 7}}' --room pool:pool_local
  manage.py emit_test_event --stdin < events.jsonl

with --stdin:
  A line is an object with event, and perhaps data and room; an event message as clients receive it will do: its type,
  id and timestamp are ignored. The id is taken from data (workflow_id, pool_id, worker_id) or from room. Each line is
  acknowledged on standard output once it is committed: {{"line":1,"seq":42,"event":"...","rooms":["...","global"]}}.
  A line that cannot be used is named on standard error with its number; the others go on, and the exit code is 1.
  Empty lines are passed over. A line may have {MAX_LINE_BYTES} bytes.
"""


class InputLine(msgspec.Struct):
    """What a line of `--stdin` says; whatever else a message has is ignored."""

    event: str
    data: dict[str, Any] = {}
    room: str | None = None


class Acknowledgement(msgspec.Struct):
    """That a line is committed."""

    line: int
    seq: int
    event: str
    rooms: Sequence[str]


class Command(CommandWithEpilog):
    help = (
        "Broadcasts one event to every client that subscribes to a channel it belongs to, with data.test = true. "
        "No state changes. Works beside a running server; without one, clients that resume receive it."
    )
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("event", nargs="?", metavar="EVENT", help="What the event is called: workflow.started, …")
        parser.add_argument("--id", help="The workflow, pool or worker that the event is about.")
        parser.add_argument("--data", metavar="JSON", help="A JSON object: fields of the event's data.")
        parser.add_argument("--room", help="A channel to deliver it through, besides those it belongs to.")
        parser.add_argument(
            "--stdin", action="store_true", help="Read events from standard input, one a line; see below."
        )

    def handle(
        self, *args: Any, event: str | None, id: str | None, data: str | None, room: str | None, **options: Any
    ) -> None:
        with readable_database_errors():
            if not options["stdin"]:
                if event is None:
                    raise CommandError("Which event? Expected its name, such as workflow.started, or --stdin.")
                self.emit_one(event, resource_id=id, data=data, room=room)
            elif (event, id, data, room) != (None, None, None, None):
                raise CommandError("With --stdin the lines say everything: expected no EVENT, --id, --data or --room.")
            else:
                self.emit_lines()

    def emit_one(self, name: str, *, resource_id: str | None, data: str | None, room: str | None) -> None:
        try:
            fields = decode_object(data) if data is not None else {}
        except ValueError as error:
            raise CommandError(f"--data is no JSON object: {error}") from None
        try:
            event = sample_event(name, data=fields, resource_id=resource_id, room=room, at=utc_now())
        except UnusableEvent as error:
            raise CommandError(str(error)) from None
        (seq,) = commit([event])
        self.stdout.write(f"{event.name} is event {seq}, in {', '.join(event.channels)}")
        if not event.is_known:
            self.stderr.write(f"This server itself never announces {event.name}: sent as given.")
        self.warn_if_no_server()

    def emit_lines(self) -> None:
        self.warn_if_no_server()
        self.bad_lines = 0
        try:
            read = partial(os.read, sys.stdin.fileno())
            for lines in read_batches(read, max_line_bytes=MAX_LINE_BYTES, max_lines=MAX_LINES_PER_TRANSACTION):
                self.emit_batch(lines)
        except BrokenPipeError:
            # Nobody reads the acknowledgements. What is left of them is flushed at the end, into nothing.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise CommandError("Standard output was closed; lines without an acknowledgement may be lost.") from None
        if self.bad_lines:
            raise CommandError(f"Lines that could not be used: {self.bad_lines}.")

    def emit_batch(self, lines: Sequence[Line]) -> None:
        events: dict[int, SampleEvent] = {}
        for line in lines:
            if line.text is not None and not line.text.strip():
                continue
            try:
                events[line.number] = event_of(line)
            except ValueError as error:
                self.bad_lines += 1
                self.stderr.write(f"line {line.number}: {error}")
        seqs = commit(list(events.values()))
        acknowledgements = (
            Acknowledgement(number, seq, event.name, event.channels)
            for (number, event), seq in zip(events.items(), seqs, strict=True)
        )
        self.stdout.write("".join(f"{encode_data(each)}\n" for each in acknowledgements), ending="")
        self.stdout.flush()

    def warn_if_no_server(self) -> None:
        if (reason := server_problem()) is not None:
            self.stderr.write(f"{reason} Events are stored all the same, and reach clients that resume.")


def event_of(line: Line) -> SampleEvent:
    """The event that a line asks for.

    Raises:
        ValueError: if it is none; the message says why.
    """
    if line.text is None:
        raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
    given = msgspec.convert(decode_object(line.text.decode()), InputLine)
    return sample_event(given.event, data=given.data, room=given.room, at=utc_now())


def commit(events: Sequence[SampleEvent]) -> list[int]:
    """Announce events in one transaction and return the seq of each, once it is committed."""
    seqs: list[int] = []
    with transaction.atomic():
        for event in events:
            event.announce(on_written=seqs.append)
    return seqs
