"""The times of events."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from orchestration import services
from realtime.models import Event

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]


def test_times_in_the_hour_that_occurs_twice_are_an_hour_apart() -> None:
    before_the_change = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    services.create_pool(pool_id="before", at=before_the_change)
    services.create_pool(pool_id="after", at=before_the_change.replace(fold=1))
    before, after = Event.objects.order_by("seq").values_list("timestamp", flat=True)
    assert after - before == timedelta(hours=1)
