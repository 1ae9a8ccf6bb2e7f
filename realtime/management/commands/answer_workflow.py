"""`manage.py answer_workflow ID [NAME]`: answer what a workflow asks."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from orchestration.management.service_errors import readable_service_errors
from orchestration.models import Wait
from orchestration.sdk.answers import answer
from orchestration.text import escape_line
from realtime.management.help import CommandWithEpilog
from realtime.management.run_operation import run_for_each
from realtime.protocol.payload import decode_value

EPILOG = """
examples:
  manage.py answer_workflow wf_1
  manage.py answer_workflow wf_1 approve --json '{"approved": true}'

exit codes:
  0 the answer is accepted; 1 it is refused
"""


class Command(CommandWithEpilog):
    """Answer what a workflow asks."""

    help = (
        "Answers a stage that asks. The first valid answer wins. Without --json, the command shows the question, and "
        "asks for each field of the answer on a terminal."
    )
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", metavar="ID", help="The id of the workflow.")
        parser.add_argument("name", metavar="NAME", nargs="?", help="The stage that asks; the only one by default.")
        parser.add_argument("--json", dest="text", metavar="JSON", help="The answer.")
        parser.add_argument("--by", default="", help="Who answers; by default the user of this machine.")

    def handle(self, *args: Any, id: str, name: str | None, text: str | None, by: str, **options: Any) -> None:
        with readable_service_errors():
            wait = None if name is not None and text is not None else self._find(id, name)
        stage_name = name or (wait.name if wait is not None else "")
        value = self._asked(wait) if text is None and wait is not None else _decoded("--json", text or "")

        def give(workflow_id: str) -> str:
            answer(
                workflow_id, stage_name, value, by=by or getpass.getuser(), wait_id=None if wait is None else wait.pk
            )
            return f"{workflow_id}: {stage_name} answered"

        run_for_each(self, [id], give)

    def _find(self, workflow_id: str, name: str | None) -> Wait:
        found = Wait.objects.open_questions().filter(workflow_id=workflow_id)
        waits = [wait for wait in found.order_by("pk") if name in (None, wait.name)]
        if len(waits) == 1:
            return waits[0]
        names = ", ".join(wait.name for wait in waits)
        if not waits:
            raise CommandError(f"Workflow {workflow_id} does not ask{f' {name}' if name else ''} now.")
        raise CommandError(f"Workflow {workflow_id} asks several things: name one of {names}.")

    def _asked(self, wait: Wait) -> Any:
        if not sys.stdin.isatty():
            raise CommandError("Expected --json: standard input is not a terminal.")
        self.stdout.write(escape_line(wait.title or wait.name))
        if wait.schema.get("type") != "object":
            text = input(f"Answer ({_described(wait.schema)}): ")
            return text if wait.schema.get("type") == "string" else _decoded("The answer", text)
        answers: dict[str, Any] = {}
        required = wait.schema.get("required", [])
        for field, schema in wait.schema.get("properties", {}).items():
            text = input(f"{escape_line(field)} ({_described(schema)}{'' if field in required else ', optional'}): ")
            if text or field in required:
                answers[field] = text if schema.get("type") == "string" else _decoded(field, text)
        return answers


def _described(schema: dict[str, Any]) -> str:
    return escape_line(str(schema.get("type") or schema.get("enum") or "JSON"))


def _decoded(name: str, text: str) -> Any:
    try:
        return decode_value(text)
    except ValueError as error:
        raise CommandError(f"{name}: expected JSON; {error}") from error
