"""The OpenAPI document is true: what schemathesis makes of it is answered as it says, and never with a fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def fuzzed(start_module_server: StartServer) -> Iterator[MahavishnuServer]:
    """Start a server with one of everything, and no limit that would hide an answer."""
    server = start_module_server(
        max_messages_per_second=1e6,
        max_message_burst=1_000_000,
        max_replay_burst_bytes=1024**3,
        max_connects_per_second=1e6,
    )
    services = server.services
    services.create_pool(pool_id="default")
    services.register_worker(worker_id="host-1", pool_id="default")
    services.create_workflow(workflow_id="nightly-1", adapter="x", prompt="p", stages=["a"], pool_id="default")
    yield server


def run(server: MahavishnuServer, *, max_examples: int, seed: int) -> int:
    """Send about so many requests to each operation; return how many were answered."""
    schema = schemathesis.openapi.from_url(f"{server.http_url}/api/openapi.json")
    answered = 0
    operations: Any = schema.get_all_operations()
    for operation in (found.ok() for found in operations):

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=max_examples,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy())
        def send(case: Any) -> None:
            nonlocal answered
            for name, value in {"workflow_id": "nightly-1", "pool_id": "default", "worker_id": "host-1"}.items():
                if name in case.path_parameters and answered % 2:
                    case.path_parameters[name] = value
            case.call_and_validate(checks=CHECKS)
            answered += 1

        send()
    return answered


def test_answers_are_those_of_the_document(fuzzed: MahavishnuServer) -> None:
    assert run(fuzzed, max_examples=2, seed=1) > 20
    assert "Traceback" not in fuzzed.log_text()


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(3))
def test_many_answers_are_those_of_the_document(fuzzed: MahavishnuServer, seed: int) -> None:
    assert run(fuzzed, max_examples=300, seed=seed) > 2000
    assert "Traceback" not in fuzzed.log_text()
