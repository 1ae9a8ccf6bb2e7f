"""What happens to pools."""

from __future__ import annotations

from orchestration import services
from orchestration.models import Pool
from orchestration.reporter import reporting_as
from tests.fold.day import Day, operation


@operation(3)
def create_pool(day: Day) -> None:
    with reporting_as(day.choose(("", "airflow"))):
        services.create_pool(pool_id=day.choose(("pool1", "pool2", "pool3")))


@operation()
def drain_pool(day: Day) -> None:
    services.drain_pool(pool_id=day.pick(Pool.objects.filter(status="active")).pk)


@operation(3)
def reopen_pool(day: Day) -> None:
    services.reopen_pool(pool_id=day.pick(Pool.objects.filter(status="draining")).pk)


@operation()
def close_pool(day: Day) -> None:
    services.close_pool(pool_id=day.pick(Pool.objects.exclude(status="closed")).pk)


@operation()
def remove_pool(day: Day) -> None:
    services.remove_pool(pool_id=day.pick(Pool.objects.all()).pk)
