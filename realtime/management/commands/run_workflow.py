"""`manage.py run_workflow`: start a workflow and, with --watch, display it until it has finished."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.core.management.base import CommandError, CommandParser

from orchestration.db.retry import retry_while_unavailable
from orchestration.management.database_errors import readable_database_errors
from orchestration.models import Worker, Workflow, WorkflowStatus
from orchestration.sdk import broken_modules, definitions
from orchestration.sdk.launch import LaunchError, described_parameters, description_of, launch_by_name
from orchestration.text import escape_line
from realtime.management.help import CommandWithEpilog
from realtime.management.run_display import RunDisplay
from realtime.management.run_follower import EXIT_CODES, RunFollower
from realtime.management.server_address import workflow_url
from realtime.protocol.payload import decode_value

EPILOG = """
examples:
  manage.py run_workflow                                     lists all workflows
  manage.py run_workflow source_report --watch
  manage.py run_workflow source_report --param path=~/code --param report=/tmp/report.md --watch
  manage.py run_workflow demo_retry --param failures=3 --key ticket-42

A value is JSON if it is valid JSON and the workflow accepts it; otherwise it is a string: failures=3 is a number,
path=~/code a string. The workflow checks every value.

exit codes with --watch:
  0 completed, 3 failed, 4 cancelled, 5 timed out, 130 Ctrl-C (the workflow is still running);
  1 and 2: the workflow was not started
"""


class Command(CommandWithEpilog):
    """Start a workflow or list all workflows."""

    help = "Starts a workflow defined in the workflows.py of an app. Without a name, lists all workflows."
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", metavar="NAME", help="The name of the workflow.")
        parser.add_argument("--prompt", default="", help="The prompt of the run.")
        parser.add_argument(
            "--param",
            dest="params",
            action="append",
            default=[],
            type=parse_param,
            metavar="KEY=VALUE",
            help="A parameter of the workflow. Repeat the option for several.",
        )
        parser.add_argument("--pool", help="The pool to run in (default: the pool in the workflow's definition).")
        parser.add_argument("--key", help="Idempotency key: a second start with the same key returns the existing run.")
        parser.add_argument("--watch", action="store_true", help="Display the run until it has finished.")

    def handle(self, *args: Any, name: str | None, **options: Any) -> None:
        with readable_database_errors():
            if name is None:
                self.list_workflows()
                return
            workflow_id = self.start(name, **options)
            if not options["watch"]:
                self.stdout.write(workflow_id)
                self.stdout.flush()
                if url := workflow_url(workflow_id):
                    self.write_note(url)
                return
            status = self.watch(workflow_id, name=name, detailed=options["verbosity"] > 1)
        sys.exit(EXIT_CODES[WorkflowStatus(status)])

    def list_workflows(self) -> None:
        for name, definition in sorted(definitions().items()):
            self.stdout.write(f"{name}  {description_of(definition)}".rstrip())
            if parameters := described_parameters(definition):
                self.stdout.write(f"    {', '.join(parameters)}")
        for broken in broken_modules():
            self.stderr.write(f"{escape_line(str(broken))}.")

    def start(
        self, name: str, *, prompt: str, params: Sequence[Param], pool: str | None, key: str | None, **_: Any
    ) -> str:
        """Start the workflow and return its id.

        Raises:
            CommandError: if it cannot be started.
        """
        try:
            values, texts = {each.key: each.value for each in params}, {each.key: each.text for each in params}
            return launch_by_name(name, prompt=prompt, params=values, pool=pool, key=key, texts=texts).workflow_id
        except LaunchError as error:
            raise CommandError(str(error)) from error

    def watch(self, workflow_id: str, *, name: str, detailed: bool) -> str:
        """Display the run until it has finished, and return its status."""
        try:
            url = workflow_url(workflow_id)
            self.write_line(f"{workflow_id} ({name}) started{f': {url}' if url else ''}")
            when_available = partial(retry_while_unavailable, timeout_seconds=None, report=self.write_line)
            when_available(lambda: self.warn_if_no_worker(workflow_id))
            follower = when_available(lambda: RunFollower(workflow_id))
            return RunDisplay(follower, out=self.stdout, err=self.stderr, detailed=detailed).show_until_finished()
        except KeyboardInterrupt:
            self.stderr.write(
                f"Stopped watching; workflow {workflow_id} is still running. "
                f"`manage.py watch workflow:{workflow_id}` shows its events."
            )
            raise

    def write_line(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def warn_if_no_worker(self, workflow_id: str) -> None:
        pool_id = Workflow.objects.values_list("pool_id", flat=True).get(pk=workflow_id)
        if not Worker.objects.filter(pool_id=pool_id).exclude(process="").exists():
            self.stderr.write(
                f"No worker is online for pool {pool_id}; the workflow stays queued until one starts. "
                f"`make serve` starts a worker for pool local, "
                f"`celery -A mahavishnu_site worker -Q {pool_id}` for this pool."
            )


@dataclass(frozen=True)
class Param:
    """A parameter on the command line.

    Attributes:
        value: The text as JSON, if it is valid JSON.
    """

    key: str
    text: str
    value: Any


def parse_param(argument: str) -> Param:
    """Parse KEY=VALUE."""
    key, equals, text = argument.partition("=")
    if not key.isidentifier() or not equals:
        raise ArgumentTypeError(f"{argument!r}: expected KEY=VALUE, such as failures=3")
    try:
        return Param(key, text, decode_value(text))
    except ValueError:
        return Param(key, text, text)
