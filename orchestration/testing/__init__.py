"""Test workflows: run one without broker and worker, or call one stage with a context that needs no database.

`run_inline` uses the services, the adapters and the executor of a worker, on the database of the test. So the stored
run, its events and its errors are those of a real run; only the broker, the worker process and the waits are missing.
"""

from __future__ import annotations

from orchestration.testing.fake_context import FakeContext, StartedRun, fake_context
from orchestration.testing.inline_worker import StageTimeout, WorkerLost, run_inline
from orchestration.testing.result import InlineEvent, InlineResult, StageResult
from orchestration.testing.run_stuck import RunStuck

__all__ = [
    "FakeContext",
    "InlineEvent",
    "InlineResult",
    "RunStuck",
    "StageResult",
    "StageTimeout",
    "StartedRun",
    "WorkerLost",
    "fake_context",
    "run_inline",
]
