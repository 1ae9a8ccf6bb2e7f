"""A peer of the engine: a bare Celery chain of three empty tasks, with the settings of Mahavishnu's worker.

`celery -A benchmarks.peers.celery_chain worker` is the worker; `python -m benchmarks.peers.celery_chain` starts chains:
for each line on standard input, `{"chains": N}`, it starts N and prints their durations as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from celery import Celery, chain
from redis import Redis

_DONE = "benchmark.done"
_WAIT_SECONDS = 60

app = Celery("celery_chain", broker=os.environ["BENCHMARK_BROKER_URL"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
)


def _redis() -> Redis:
    return Redis.from_url(os.environ["BENCHMARK_REDIS_URL"])


@app.task(name="benchmark.empty")  # type: ignore[untyped-decorator]
def empty() -> None:
    """Do nothing."""


@app.task(name="benchmark.last")  # type: ignore[untyped-decorator]
def last(number: int) -> None:
    """Report the end of the chain to a list in Redis."""
    _worker_connection().rpush(_DONE, number)


_connections: list[Redis] = []


def _worker_connection() -> Redis:
    if not _connections:
        _connections.append(_redis())
    return _connections[0]


def _run(redis: Redis, chains: int) -> dict[str, Any]:
    began = {}
    first = time.monotonic()
    for number in range(chains):
        began[number] = time.monotonic()
        chain(empty.si(), empty.si(), last.si(number)).apply_async()
    ended: dict[int, float] = {}
    for _ in range(chains):
        found: Any = redis.blpop([_DONE], timeout=_WAIT_SECONDS)
        if found is None:
            raise TimeoutError(f"{chains - len(ended)} chains did not end within {_WAIT_SECONDS} s")
        ended[int(found[1])] = time.monotonic()
    durations_ms = [(ended[number] - began[number]) * 1000 for number in began]
    return {"durations_ms": durations_ms, "seconds": max(ended.values()) - first}


def main() -> None:
    redis = _redis()
    for line in sys.stdin:
        print(json.dumps(_run(redis, json.loads(line)["chains"])), flush=True)


if __name__ == "__main__":
    main()
