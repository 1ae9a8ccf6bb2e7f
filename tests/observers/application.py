"""A Celery application that knows nothing of this project: three tasks, for the tests of its observer."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

app = Celery("shop", broker=os.environ["SHOP_BROKER"], backend=os.environ["SHOP_BACKEND"])
app.conf.update(
    task_default_queue="orders",
    task_routes={"shop.notify": {"queue": "mail"}},
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)


@app.task(name="shop.add", bind=True, max_retries=3)
def add(self, left, right, fail_first=0, error=""):  # type: ignore[no-untyped-def]
    """Add two numbers, after some failures."""
    if error:
        raise ValueError(error)
    if self.request.retries < fail_first:
        raise self.retry(exc=RuntimeError("Try again"), countdown=0)
    return left + right


@app.task(name="shop.total")
def total(values):  # type: ignore[no-untyped-def]
    """Add many numbers."""
    return sum(values)


@app.task(name="shop.notify")
def notify(value, wait_for=""):  # type: ignore[no-untyped-def]
    """Wait for a file, and return the value."""
    while wait_for and not Path(wait_for).exists():
        time.sleep(0.05)
    return value
