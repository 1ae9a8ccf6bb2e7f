"""`manage.py observe_celery`: show an existing Celery application live, without a change to it."""

from __future__ import annotations

import contextlib
import logging
import signal
from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from orchestration.db.retry import retry_while_unavailable
from orchestration.observers.celery import broker, identity, stored
from orchestration.observers.celery.observer import Observer
from orchestration.observers.celery.receiver import Receiver
from orchestration.observers.celery.runner import Runner
from orchestration.observers.celery.sink import ServiceSink
from realtime.management.arguments import number
from realtime.management.help import CommandWithEpilog

EPILOG = """
The workers must send events: start them with -E, or leave it to this command, which sends them enable_events.

examples:
  manage.py observe_celery --broker redis://localhost:6379/0
  manage.py observe_celery --broker amqp://user:password@host:5672// --prefix shop --no-enable-events
  manage.py observe_celery --broker-file /run/secrets/broker_url --prefix shop
"""


class Command(CommandWithEpilog):
    """Observe a Celery application."""

    help = (
        "Shows a Celery application that runs elsewhere: its workers, its queues as pools, and its task trees as "
        "workflows. Runs until SIGTERM or Ctrl-C. docs/observe-celery.md lists what Celery's events do not contain."
    )
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        where = parser.add_mutually_exclusive_group(required=True)
        where.add_argument("--broker", metavar="URL", help="The broker of the application, as its broker_url.")
        where.add_argument(
            "--broker-file", metavar="PATH", help="A file with that URL: process lists then do not show its password."
        )
        parser.add_argument(
            "--prefix",
            default="celery",
            metavar="NAME",
            help="The beginning of the ids of its workers, pools and workflows (default: celery).",
        )
        parser.add_argument(
            "--show-arguments",
            action="store_true",
            help="Show arguments and results of tasks. Without it, only names, times and exceptions are shown.",
        )
        parser.add_argument(
            "--no-enable-events",
            action="store_true",
            help="Do not enable the events of tasks in the workers. Show what the workers send without it.",
        )
        parser.add_argument(
            "--settle-seconds",
            type=number(minimum=0, maximum=86400),
            default=5.0,
            metavar="S",
            help="Finish a workflow when all of its tasks have been finished for this long (default: 5).",
        )
        parser.add_argument(
            "--key-prefix", default="", metavar="TEXT", help="The global_keyprefix of the application, on Redis."
        )
        parser.add_argument(
            "--event-exchange", default="celeryev", metavar="NAME", help="Its event_exchange (default: celeryev)."
        )
        parser.add_argument(
            "--control-exchange", default="celery", metavar="NAME", help="Its control_exchange (default: celery)."
        )

    def handle(self, *args: Any, broker_file: str | None, prefix: str, **options: Any) -> None:
        if not identity.is_prefix(prefix):
            raise CommandError(f"--prefix must be {identity.PREFIX_EXPECTED}.")
        # It would log each message that is not JSON whole, with a traceback.
        logging.getLogger("kombu.transport.redis").setLevel(logging.ERROR)
        signals: list[int] = []
        for received in (signal.SIGTERM, signal.SIGINT):
            signal.signal(received, lambda number, _: signals.append(number))

        def is_stopping() -> bool:
            return bool(signals)

        receiver = Receiver(
            _broker_url(options["broker"], broker_file),
            transport_options={"global_keyprefix": options["key_prefix"]} if options["key_prefix"] else {},
            event_exchange=options["event_exchange"],
            control_exchange=options["control_exchange"],
        )
        read = partial(retry_while_unavailable, timeout_seconds=None, is_expired=is_stopping)
        ids = identity.Identity(prefix)
        observer = Observer(
            ids,
            settle_seconds=options["settle_seconds"],
            shows_arguments=options["show_arguments"],
            is_finished=lambda workflow_id: read(lambda: stored.is_finished(workflow_id)),
        )
        sink = ServiceSink(is_stopping=is_stopping)
        runner = Runner(
            receiver=receiver,
            observer=observer,
            sink=sink,
            enables_events=not options["no_enable_events"],
            show_progress=self.show_progress,
        )
        runner.restore(read(lambda: list(stored.unfinished_tasks(ids))))
        runner.run(stopped=is_stopping)

    def show_progress(self, line: str) -> None:
        # The observer continues when nothing can be written there.
        with contextlib.suppress(OSError):
            self.stdout.write(line)
            self.stdout.flush()


def _broker_url(url: str | None, path: str | None) -> str:
    try:
        return broker.parse_url(url if path is None else Path(path).read_text(encoding="utf-8").strip())
    except (OSError, ValueError) as error:
        raise CommandError(f"{'--broker' if path is None else '--broker-file'}: {error}") from None
