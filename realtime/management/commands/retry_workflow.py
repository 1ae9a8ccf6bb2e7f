"""`manage.py retry_workflow ID…`: run finished workflows again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from django.core.management.base import CommandError, CommandParser

from orchestration import services
from realtime.management.help import CommandWithEpilog
from realtime.management.run_operation import run_for_each

EPILOG = """
examples:
  manage.py retry_workflow wf_1                              the stages that did not complete
  manage.py retry_workflow wf_1 wf_2
  manage.py retry_workflow wf_1 --from-stage generate        that stage, all later steps, and what did not complete
  manage.py retry_workflow wf_1 --from-stage embed --failed-items-only      its failed items, and all later steps

exit codes:
  0 all run again; 1 at least one does not: the others do
"""


class Command(CommandWithEpilog):
    """Retry workflows."""

    help = (
        "Runs finished workflows again: the stages that did not complete and, with --from-stage, that stage and all "
        "later steps. Completed stages keep their results. A workflow that completed needs --from-stage."
    )
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", nargs="+", metavar="ID", help="The id of a workflow.")
        parser.add_argument("--from-stage", metavar="NAME", help="The stage to repeat from.")
        parser.add_argument(
            "--failed-items-only",
            action="store_true",
            help="Of the items of that stage, repeat only those that failed or had not ended.",
        )

    def handle(
        self, *args: Any, ids: Sequence[str], from_stage: str | None, failed_items_only: bool, **options: Any
    ) -> None:
        if failed_items_only and from_stage is None:
            raise CommandError("--failed-items-only needs --from-stage NAME: the stage with these items.")
        retry_run = partial(services.retry_run, from_stage=from_stage, failed_items_only=failed_items_only)

        def retry(workflow_id: str) -> str:
            workflow = retry_run(workflow_id=workflow_id)
            again = workflow.total_stages - workflow.stages_completed
            return f"{workflow_id} runs again: {again} of {workflow.total_stages} stages"

        run_for_each(self, ids, retry)
