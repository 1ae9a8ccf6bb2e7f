"""All operations of a day, with those that combine others or are about the day itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.db import transaction

from orchestration import services
from tests.fold import (
    application_operations,
    external_operations,
    pool_operations,
    report_operations,
    run_operations,
    sub_run_operations,
    wait_operations,
    worker_operations,
)
from tests.fold.day import WEIGHTED, Day, operation

MODULES: Final = (
    application_operations,
    external_operations,
    pool_operations,
    report_operations,
    sub_run_operations,
    run_operations,
    wait_operations,
    worker_operations,
)

SIMPLE: Final = tuple(WEIGHTED)
"""The operations of these modules, which may be in a transaction of several."""


@operation(4)
def several_in_one_transaction(day: Day) -> None:
    with transaction.atomic():
        for _ in range(day.choose((2, 3))):
            day.do(day.choose(SIMPLE), is_part=True)


@operation(2)
def rolled_back(day: Day) -> None:
    with transaction.atomic():
        day.do(day.choose(SIMPLE), is_part=True)
        transaction.set_rollback(True)


@operation(6)
def pass_of_the_scheduler(day: Day) -> None:
    day.now += timedelta(seconds=day.choose((0, 0, 3, 3, 30, 1000)))
    day.run_scheduler()


@operation()
def heartbeat_of_the_scheduler(day: Day) -> None:
    services.record_scheduler_heartbeat(alive=day.maybe())


@operation(2)
def restart_of_the_client(day: Day) -> None:
    if day.maybe():
        day.channels.store()
    else:
        day.channels.restart()
