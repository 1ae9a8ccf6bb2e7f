"""Stages with typed inputs and outputs, on a real worker."""

from __future__ import annotations

from tests.harness.engine import Engine
from tests.harness.waiting import wait_until


def test_worker_passes_typed_inputs_and_outputs(engine: Engine, shared_pool: str) -> None:
    run = engine.start("typed_stages", pool=shared_pool, prompt="p", day="2026-01-31", folder="/tmp")
    wait_until(lambda: engine.workflow(run)["status"] != "running", timeout_seconds=60, what=run)
    stored = engine.workflow(run)
    assert (stored["status"], stored["result"]["final_output"]) == ("completed", "/tmp/p-eu-2026-2")
