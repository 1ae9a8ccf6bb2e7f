"""Do the same with each of some workflows, and show the result and the page of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.core.management.base import CommandError

from orchestration import services
from orchestration.management.output import EscapedOutput, EscapingCommand
from orchestration.management.service_errors import explain, readable_service_errors
from orchestration.text import escape_line
from realtime.management.server_address import workflow_url
from realtime.management.server_check import delayed_delivery_warning


def run_for_each(command: EscapingCommand, ids: Iterable[str], operation: Callable[[str], str]) -> None:
    """Call the operation with each id. One that is refused does not stop the others, nor does a closed pipe.

    Args:
        command: Writes what the operation returns, and the URL of the page of the workflow.
        ids: The workflows.
        operation: Changes a workflow, and returns what happened.

    Raises:
        CommandError: if an operation was refused, after all others.
    """
    refused = 0
    with readable_service_errors():
        for workflow_id in dict.fromkeys(ids):
            try:
                result = operation(workflow_id)
            except services.ServiceError as error:
                refused += 1
                _write_line(command.stderr, explain(error))
                continue
            url = workflow_url(workflow_id)
            _write_line(command.stdout, f"{result}{f'  {url}' if url else ''}")
        if (warning := delayed_delivery_warning()) is not None:
            _write_line(command.stderr, warning)
    if refused:
        raise CommandError(f"Refused: {refused} of {len(set(ids))} workflows.")


def _write_line(output: EscapedOutput, line: str) -> None:
    try:
        output.write(escape_line(line))
        output.flush()
    except BrokenPipeError:
        output.discard()
