"""A separate process that executes orders.

Orders and answers are JSON objects. `{"service": name, "arguments": {…}}` calls `orchestration.services.<name>`.
`{"code": text, "variables": {…}}` runs Python and returns the variable `result`. The answer is `{"result": …}` or
`{"error": class, "message": text}`.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import traceback
from collections.abc import Iterable, Mapping
from multiprocessing.connection import Connection
from typing import Any

import django
from django.db import connections, models

from tests.harness import programs


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


def serve(orders: Connection) -> None:
    while True:
        try:
            order = json.loads(orders.recv_bytes())
        except EOFError:
            return
        try:
            answer = {"result": execute(order)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": type(error).__name__, "message": str(error)}
        orders.send_bytes(json.dumps(answer).encode())


def run(orders: Connection, environment: Mapping[str, str], log_path: str) -> None:
    """Execute orders until the other end is closed, in a new session, with these variables and this output file.

    At the end the handlers of `atexit` run and the database is closed, as when an interpreter exits.
    """
    programs.enter({"DJANGO_SETTINGS_MODULE": "mahavishnu_site.settings", **environment}, log_path)
    django.setup()
    serve(orders)
    programs.leave()
    connections.close_all()
