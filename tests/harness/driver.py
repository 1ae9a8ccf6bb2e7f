"""`python -m tests.harness.driver`: carries out what it is told on standard input, in a process of its own.

One JSON object a line in, one a line out. `{"service": name, "arguments": {…}}` calls `orchestration.services.<name>`;
`{"code": text, "variables": {…}}` runs Python and answers with what it left in `result`. The answer is
`{"result": …}` or `{"error": class, "message": text}`.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from typing import IO, Any

import django
from django.db import models


def plain(value: Any) -> Any:
    """Return the value as JSON can say it: a model instance becomes its fields, a moment its ISO 8601 text."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, models.Model):
        return {field.attname: plain(getattr(value, field.attname)) for field in value._meta.concrete_fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return str(value)


def carry_out(order: dict[str, Any]) -> Any:
    if "service" in order:
        from orchestration import services

        return plain(getattr(services, order["service"])(**order["arguments"]))
    namespace: dict[str, Any] = {**order["variables"], "result": None}
    exec(order["code"], namespace)
    return plain(namespace["result"])


def serve(orders: IO[str], answers: IO[str]) -> None:
    for line in orders:
        try:
            answer = {"result": carry_out(json.loads(line))}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": type(error).__name__, "message": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    # What the project prints must not come between the answers.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mahavishnu_site.settings")
        django.setup()
        serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
