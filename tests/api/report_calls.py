"""Reports of events, in process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from realtime.api.clients import Permissions
from realtime.api.idempotency import request_key
from realtime.api.problems import Problem
from realtime.api.reports import store_events
from realtime.auth.identity import Identity
from realtime.connection.refusal_counter import RefusalCounter

AIRFLOW = Identity(user_id="airflow", permissions=("event:write", "pool:write"))


def report(*items: Any, identity: Identity = AIRFLOW, atomic: bool = True, key: str | None = None) -> Any:
    body = json.dumps(items[0] if len(items) == 1 else list(items)).encode()
    return report_body(body, identity=identity, atomic=atomic, key=key)


def report_body(body: bytes, *, identity: Identity = AIRFLOW, atomic: bool = True, key: str | None = None) -> Any:
    with_key = request_key(key, user_id=identity.user_id, path="/api/v1/events", content=body)
    permissions = Permissions(identity, "a test", RefusalCounter(100))
    return json.loads(store_events(body, permissions, with_key, atomic=atomic).body)


def event(name: str, **data: Any) -> dict[str, Any]:
    return {"event": name, "data": data}


def refusal(*items: Any, identity: Identity = AIRFLOW) -> Problem:
    with pytest.raises(Problem) as error:
        report(*items, identity=identity)
    return error.value


STARTED = event("workflow.started", workflow_id="wf", adapter="llamaindex", prompt="Write code")
