"""`manage.py retry_workflow ID…`: run finished workflows again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandParser

from orchestration import services
from orchestration.models import Stage, StageStatus
from realtime.management.help import CommandWithEpilog
from realtime.management.run_operation import run_for_each

EPILOG = """
examples:
  manage.py retry_workflow wf_1                              the stages that did not complete
  manage.py retry_workflow wf_1 wf_2
  manage.py retry_workflow wf_1 --from-stage generate        that stage, all later steps, and what did not complete

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

    def handle(self, *args: Any, ids: Sequence[str], from_stage: str | None, **options: Any) -> None:
        def retry(workflow_id: str) -> str:
            workflow = services.retry_run(workflow_id=workflow_id, from_stage=from_stage)
            kept = Stage.objects.filter(workflow=workflow, status=StageStatus.COMPLETED).count()
            return f"{workflow_id} runs again: {workflow.total_stages - kept} of {workflow.total_stages} stages"

        run_for_each(self, ids, retry)
