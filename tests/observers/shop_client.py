"""A client of the observed application: it starts tasks, and prints their ids and results as JSON.

It is a process, because Celery's objects for results try to reach their broker when they are freed, however late.
"""

from __future__ import annotations

import json
import os
from functools import partial

from celery import Celery, chain, chord, group

TIMEOUT_SECONDS = 60


def main() -> None:
    url = os.environ["SHOP_BROKER"]
    app = Celery("client", broker=url, backend=url)
    app.conf.update(task_default_queue="orders", task_routes={"shop.notify": {"queue": "mail"}})

    def task(name: str, *arguments: object, **options: object) -> object:
        return app.signature(f"shop.{name}", args=arguments, kwargs=options)

    add, total, notify = (partial(task, name) for name in ("add", "total", "notify"))
    chained = chain(add(1, 2), add(3), notify()).apply_async()
    pair = group(add(1, 1), add(2, 2)).apply_async()
    summed = chord([add(1, 1), add(2, 2, fail_first=1)], total()).apply_async()
    failing = app.send_task("shop.add", args=(1, 1), kwargs={"error": "kaputt"})
    results = [each.get(timeout=TIMEOUT_SECONDS) for each in (chained, pair, summed)]
    print(json.dumps({"chain": chained.parent.parent.id, "failing": failing.id, "results": results}))


if __name__ == "__main__":
    main()
