"""What a report of events may name, in process."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration import services
from orchestration.models import Stage, Worker
from realtime.api import clients
from realtime.api.problems import Problem
from realtime.auth.identity import Identity
from tests.api.report_calls import STARTED, event, report

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]


@pytest.mark.parametrize("atomic", [True, False])
def test_answer_does_not_reveal_whether_a_worker_exists(atomic: bool) -> None:
    services.create_pool(pool_id="ours")
    services.register_worker(worker_id="engine-1", pool_id="ours")
    Worker.objects.update(process="engine")
    report(event("worker.added", worker_id="others-1", pool_id="reported"), STARTED)

    def answer(worker_id: str, *permissions: str) -> Any:
        identity = Identity(user_id="team", permissions=("event:write:wf", *permissions))
        running = event("workflow.stage_started", workflow_id="wf", stage_name=worker_id, worker_id=worker_id)
        if atomic:
            try:
                return report(running, identity=identity)["results"][0]["changed"]
            except Problem as problem:
                return problem.code, problem.detail.replace(worker_id, "W")
        (result,) = report(running, identity=identity, atomic=False)["results"]
        error = result.get("error")
        return result["changed"] if error is None else (error["code"], error["detail"].replace(worker_id, "W"))

    workers = ("none", "engine-1", "others-1")
    refused = ("FORBIDDEN", "events[0]: No permission to write event:W")
    assert [answer(worker_id) for worker_id in workers] == [refused] * 3
    assert [answer(worker_id, "worker:read:other") for worker_id in workers] == [refused] * 3
    assert Stage.objects.count() == 0
    for permission in ("worker:read", "event:write"):
        not_found, engine_owned, changed = (answer(worker_id, f"{permission}:{worker_id}") for worker_id in workers)
        assert (not_found[0], engine_owned[0]) == ("NOT_FOUND", "ENGINE_OWNED")
        assert changed is (permission == "worker:read")  # The second time, it runs already.


def test_refusal_that_is_repeated_in_a_request_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(clients, "log_security_event", lambda event, detail, **fields: logged.append(detail))
    identity = Identity(user_id="team", permissions=("event:write",))
    added = [event("worker.added", worker_id=f"w{number}", pool_id=f"p{number % 2}") for number in range(4)]
    results = report(*added, identity=identity, atomic=False)["results"]
    assert [result["error"]["code"] for result in results] == ["FORBIDDEN"] * 4
    assert logged == ["No permission to write pool:p0", "No permission to write pool:p1"]
