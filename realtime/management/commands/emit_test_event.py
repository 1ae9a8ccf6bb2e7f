"""`manage.py emit_test_event`: broadcast events without changing any state, to test clients."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from django.core.management.base import CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from orchestration.management.database_errors import readable_database_errors
from orchestration.suggestions import did_you_mean, similar_names
from realtime.events.samples import SampleEvent, UnusableEvent, sample_event
from realtime.events.types import EVENT_TYPES
from realtime.management.help import CommandWithEpilog
from realtime.management.server_check import delayed_delivery_warning
from realtime.management.stdin_lines import Line, read_batches
from realtime.protocol.payload import decode_object, encode_data

MAX_LINE_BYTES = 1024 * 1024
MAX_LINES_PER_TRANSACTION = 500

_NAMES = "\n  ".join(EVENT_TYPES)

EPILOG = f"""
known events; missing fields are filled with sample values:
  {_NAMES}

An event with any other name is sent with its data unchanged. A name that begins with workflow., pool. or worker. needs
an id: the event goes to the channel of that resource and to global, and a worker's event also to the worker's pool.
All other events go to --room and global.

examples:
  manage.py emit_test_event workflow.started --id wf_abc123
  manage.py emit_test_event worker.status_changed --id worker_001 --data '{{"status": "busy"}}'
  manage.py emit_test_event deploy.finished --data '{{"version": 7}}' --room pool:pool_local
  manage.py emit_test_event --stdin < events.jsonl

with --stdin:
  Each line is a JSON object with event and, optionally, data and room. Event messages as received by a client work
  too: their type, id and timestamp are ignored. The id comes from data (workflow_id, pool_id, worker_id) or from room.
  Committed lines are acknowledged on standard output: {{"line":1,"seq":42,"event":"...","rooms":["...","global"]}}.
  Invalid lines are reported on standard error with their number; the other lines are still sent, and the exit code
  is 1. Empty lines are skipped. A line may have up to {MAX_LINE_BYTES} bytes.
"""


class InputLine(msgspec.Struct):
    """A line of `--stdin`. Other fields are ignored."""

    event: str
    data: dict[str, Any] = {}
    room: str | None = None


class Acknowledgement(msgspec.Struct):
    """The output for a committed line."""

    line: int
    seq: int
    event: str
    rooms: Sequence[str]


class Command(CommandWithEpilog):
    """Broadcast one event, or events from standard input."""

    help = (
        "Broadcasts an event, marked with data.test = true, to the subscribers of its channels. No state changes. "
        "Works with or without a running server: without one, clients receive the event when they resume."
    )
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "event", nargs="?", metavar="EVENT", help="The name of the event, such as workflow.started."
        )
        parser.add_argument("--id", help="The id of the event's workflow, pool or worker.")
        parser.add_argument("--data", metavar="JSON", help="The data of the event, as a JSON object.")
        parser.add_argument("--room", help="An additional channel for the event.")
        parser.add_argument(
            "--stdin", action="store_true", help="Read events from standard input, one per line; see below."
        )

    def handle(
        self, *args: Any, event: str | None, id: str | None, data: str | None, room: str | None, **options: Any
    ) -> None:
        with readable_database_errors():
            if not options["stdin"]:
                if event is None:
                    raise CommandError("EVENT is missing: give a name, such as workflow.started, or --stdin.")
                self.emit_one(event, resource_id=id, data=data, room=room)
            elif (event, id, data, room) != (None, None, None, None):
                raise CommandError("--stdin cannot be combined with EVENT, --id, --data or --room.")
            else:
                self.emit_lines()

    def emit_one(self, name: str, *, resource_id: str | None, data: str | None, room: str | None) -> None:
        try:
            fields = decode_object(data) if data is not None else {}
        except ValueError as error:
            raise CommandError(f"--data must be a JSON object: {error}") from None
        try:
            event = sample_event(name, data=fields, resource_id=resource_id, room=room, at=timezone.now())
        except UnusableEvent as error:
            raise CommandError(str(error)) from None
        (seq,) = commit([event])
        self.stdout.write(f"Sent {event.name} with seq {seq} to {', '.join(event.channels)}")
        if not event.is_known:
            suggestion = did_you_mean(similar_names(event.name, EVENT_TYPES))
            self.stderr.write(f"Unknown event name {event.name}: data sent unchanged.{suggestion}")
        self.warn_if_no_server()

    def emit_lines(self) -> None:
        self.warn_if_no_server()
        self.invalid_lines = 0
        try:
            read = partial(os.read, sys.stdin.fileno())
            for lines in read_batches(read, max_line_bytes=MAX_LINE_BYTES, max_lines=MAX_LINES_PER_TRANSACTION):
                self.emit_batch(lines)
        except BrokenPipeError:
            self.stdout.discard()
            raise CommandError("Standard output was closed; lines without an acknowledgement may be lost.") from None
        if self.invalid_lines:
            raise CommandError(f"Invalid lines: {self.invalid_lines}.")

    def emit_batch(self, lines: Sequence[Line]) -> None:
        events: dict[int, SampleEvent] = {}
        for line in lines:
            if line.text is not None and not line.text.strip():
                continue
            try:
                events[line.number] = event_of(line)
            except ValueError as error:
                self.invalid_lines += 1
                self.stderr.write(f"line {line.number}: {error}")
        seqs = commit(list(events.values()))
        acknowledgements = (
            Acknowledgement(number, seq, event.name, event.channels)
            for (number, event), seq in zip(events.items(), seqs, strict=True)
        )
        self.stdout.write("".join(f"{encode_data(each)}\n" for each in acknowledgements), ending="")
        self.stdout.flush()

    def warn_if_no_server(self) -> None:
        if (warning := delayed_delivery_warning()) is not None:
            self.stderr.write(warning)


def event_of(line: Line) -> SampleEvent:
    """Return the event described by a line.

    Raises:
        ValueError: if the line is invalid.
    """
    if line.text is None:
        raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
    fields = msgspec.convert(decode_object(line.text.decode()), InputLine)
    return sample_event(fields.event, data=fields.data, room=fields.room, at=timezone.now())


def commit(events: Sequence[SampleEvent]) -> list[int]:
    """Store events in one transaction, and return the seq of each after the commit."""
    seqs: list[int] = []
    with transaction.atomic():
        for event in events:
            event.announce(on_written=seqs.append)
    return seqs
