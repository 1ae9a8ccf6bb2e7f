"""`manage.py cancel_workflow ID…`: cancel workflows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandParser

from orchestration import services
from realtime.management.help import CommandWithEpilog
from realtime.management.run_operation import run_for_each

EPILOG = """
examples:
  manage.py cancel_workflow wf_1
  manage.py cancel_workflow wf_1 wf_2 --reason "Wrong folder"

exit codes:
  0 all are cancelled; 1 at least one is not: the others are
"""


class Command(CommandWithEpilog):
    """Cancel workflows."""

    help = (
        "Cancels workflows that are not finished. Their unfinished stages are cancelled; a running stage is killed if "
        "it does not end within MAHAVISHNU_CANCEL_GRACE_SECONDS."
    )
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("ids", nargs="+", metavar="ID", help="The id of a workflow.")
        parser.add_argument("--reason", default="", help="Why. It becomes the error of the workflow.")

    def handle(self, *args: Any, ids: Sequence[str], reason: str, **options: Any) -> None:
        def cancel(workflow_id: str) -> str:
            services.cancel_workflow(workflow_id=workflow_id, reason=reason)
            return f"{workflow_id} cancelled{f': {reason}' if reason else ''}"

        run_for_each(self, ids, cancel)
