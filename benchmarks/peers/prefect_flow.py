"""A peer of the engine: Prefect flows of three empty tasks, against a Prefect server on this machine.

Prefect requires other versions of common dependencies, so it needs a separate environment:

    python -m venv /tmp/prefect && /tmp/prefect/bin/pip install prefect
    BENCHMARK_PREFECT_PYTHON=/tmp/prefect/bin/python python -m benchmarks engine

This file runs there, as `PREFECT_PYTHON prefect_flow.py FLOWS TASKS`. It prints JSON: the duration of each of FLOWS
flows of three tasks, one after another, and the duration of one flow with TASKS concurrent tasks.
"""

from __future__ import annotations

import json
import sys
import time

from prefect import flow, task  # type: ignore[import-not-found,unused-ignore]


@task  # type: ignore[untyped-decorator,unused-ignore]
def empty() -> None:
    """Do nothing."""


@flow  # type: ignore[untyped-decorator,unused-ignore]
def three_empty_tasks() -> None:
    for _ in range(3):
        empty()


@flow  # type: ignore[untyped-decorator,unused-ignore]
def side_by_side(tasks: int) -> None:
    for future in [empty.submit() for _ in range(tasks)]:
        future.result()


def main() -> None:
    flows, tasks = map(int, sys.argv[1:3])
    three_empty_tasks()
    durations_ms = []
    for _ in range(flows):
        began = time.monotonic()
        three_empty_tasks()
        durations_ms.append((time.monotonic() - began) * 1000)
    began = time.monotonic()
    side_by_side(tasks)
    print(json.dumps({"durations_ms": durations_ms, "seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main()
