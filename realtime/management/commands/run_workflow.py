"""`manage.py run_workflow`: start a workflow and, if asked, watch it to its end."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from collections.abc import Sequence
from functools import partial
from typing import Any

from django.core.management.base import CommandError, CommandParser

from orchestration.db.retry import retry_while_unavailable
from orchestration.management.database_errors import readable_database_errors
from orchestration.models import Worker, WorkerStatus, Workflow, WorkflowStatus
from orchestration.sdk import InvalidDefinition, definitions
from orchestration.sdk.launch import LaunchError, description_of, launch_by_name, parameters_of
from realtime.management.help import CommandWithEpilog
from realtime.management.run_follower import Follower
from realtime.management.run_watch import Watch
from realtime.protocol.payload import decode_value

EXIT_CODES = {
    WorkflowStatus.COMPLETED: 0,
    WorkflowStatus.FAILED: 3,
    WorkflowStatus.CANCELLED: 4,
    WorkflowStatus.TIMEOUT: 5,
}

EPILOG = """
examples:
  manage.py run_workflow                                     names every workflow
  manage.py run_workflow source_report --watch
  manage.py run_workflow source_report --param path=~/code --param report=/tmp/report.md --watch
  manage.py run_workflow demo_retry --param failures=3 --key ticket-42

A value is read as JSON if it is JSON, and is a string otherwise: failures=3 is a number, path=~/code is a string.

exit codes with --watch:
  0 completed, 3 failed, 4 cancelled, 5 timed out; 130 after Ctrl-C: the run goes on. 1 and 2: nothing was started.
"""


class Command(CommandWithEpilog):
    help = "Starts a workflow that is defined in some app's workflows.py. Without a name, lists those that are."
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", metavar="NAME", help="The workflow.")
        parser.add_argument("--prompt", default="", help="What the run is for.")
        parser.add_argument(
            "--param",
            dest="params",
            action="append",
            default=[],
            type=named_value,
            metavar="KEY=VALUE",
            help="A parameter of the workflow; may be given several times.",
        )
        parser.add_argument("--pool", help="The pool that runs it (default: the workflow's own).")
        parser.add_argument("--key", help="What it is started for: the same key starts a workflow once.")
        parser.add_argument("--watch", action="store_true", help="Show it until it has ended.")

    def handle(self, *args: Any, name: str | None, **options: Any) -> None:
        with readable_database_errors():
            if name is None:
                self.list_workflows()
                return
            workflow_id = self.start(name, **options)
            if not options["watch"]:
                self.stdout.write(workflow_id)
                return
            status = self.watch(workflow_id, detailed=options["verbosity"] > 1)
        sys.exit(EXIT_CODES[WorkflowStatus(status)])

    def list_workflows(self) -> None:
        try:
            found = sorted(definitions().items())
        except InvalidDefinition as error:
            raise CommandError(str(error)) from error
        for name, definition in found:
            self.stdout.write(f"{name}  {description_of(definition)}".rstrip())
            if parameters := parameters_of(definition):
                self.stdout.write(f"    {', '.join(parameters)}")

    def start(
        self, name: str, *, prompt: str, params: Sequence[tuple[str, Any]], pool: str | None, key: str | None, **_: Any
    ) -> str:
        """Start it, and return the run's id.

        Raises:
            CommandError: it cannot be started.
        """
        try:
            return launch_by_name(name, prompt=prompt, params=dict(params), pool=pool, key=key).workflow_id
        except LaunchError as refusal:
            raise CommandError(str(refusal)) from refusal

    def watch(self, workflow_id: str, *, detailed: bool) -> str:
        """Show the run until it has ended, and return its status."""
        try:
            self.write_now(f"{workflow_id} is started")
            when_available = partial(retry_while_unavailable, timeout_seconds=None, report=self.write_now)
            when_available(lambda: self.warn_if_no_worker(workflow_id))
            follower = when_available(lambda: Follower(workflow_id))
            return Watch(follower, write=self.write_now, detailed=detailed).until_end()
        except KeyboardInterrupt:
            self.stderr.write(f"{workflow_id} goes on; nobody watches it here any more.")
            raise

    def write_now(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def warn_if_no_worker(self, workflow_id: str) -> None:
        pool_id = Workflow.objects.values_list("pool_id", flat=True).get(pk=workflow_id)
        if not Worker.objects.filter(pool_id=pool_id).exclude(status=WorkerStatus.OFFLINE).exists():
            self.stderr.write(
                f"No worker serves the pool {pool_id}, and the run waits for one. `make serve` starts one for the pool "
                f"local, `celery -A mahavishnu_site worker -Q {pool_id}` one for this."
            )


def named_value(text: str) -> tuple[str, Any]:
    """A `type` of an argument: KEY=VALUE, whose value is JSON or else a string."""
    key, equals, value = text.partition("=")
    if not key.isidentifier() or not equals:
        raise ArgumentTypeError(f"{text!r}: expected KEY=VALUE, such as failures=3")
    try:
        return key, decode_value(value)
    except ValueError:
        return key, value
