"""`python -m tests.harness.driver`: executes orders from standard input in a separate process.

Orders and answers are JSON objects, one per line. `{"service": name, "arguments": {…}}` calls
`orchestration.services.<name>`. `{"code": text, "variables": {…}}` runs Python and returns the variable `result`. The
answer is `{"result": …}` or `{"error": class, "message": text}`.
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


def to_json_types(value: Any) -> Any:
    """Return the value with JSON types only: a model instance becomes its fields, a time its ISO 8601 text."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, models.Model):
        return {field.attname: to_json_types(getattr(value, field.attname)) for field in value._meta.concrete_fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json_types(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): to_json_types(item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [to_json_types(item) for item in value]
    return str(value)


def execute(order: dict[str, Any]) -> Any:
    if "service" in order:
        from orchestration import services

        return to_json_types(getattr(services, order["service"])(**order["arguments"]))
    namespace: dict[str, Any] = {**order["variables"], "result": None}
    exec(order["code"], namespace)
    return to_json_types(namespace["result"])


def serve(orders: IO[str], answers: IO[str]) -> None:
    for line in orders:
        try:
            answer = {"result": execute(json.loads(line))}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": type(error).__name__, "message": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    # Output of the project must not mix with the answers, so it goes to standard error.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mahavishnu_site.settings")
        django.setup()
        serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
