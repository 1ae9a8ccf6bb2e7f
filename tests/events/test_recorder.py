"""Tests of `realtime.events.recorder`."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from django.db import transaction

from orchestration import services
from realtime.events.recorder import RecordedEvent, record_events
from realtime.models import Event

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]


def test_record_events_gives_names_and_seqs_in_order_after_the_commit() -> None:
    services.create_pool(pool_id="before")
    with record_events() as recorded:
        with transaction.atomic():
            services.create_workflow(workflow_id="w", adapter="a", prompt="p", stages=["one"])
            services.start_workflow(workflow_id="w")
            assert recorded.events == []
        assert [event.name for event in recorded.events] == ["workflow.created", "workflow.started"]
    services.create_pool(pool_id="after")
    stored = Event.objects.filter(name__startswith="workflow.").order_by("seq").values_list("name", "seq")
    assert recorded.events == [RecordedEvent(*each) for each in stored]


def test_record_events_records_nothing_of_a_transaction_that_fails() -> None:
    with record_events() as recorded, suppress(services.NotFound), transaction.atomic():
        services.create_pool(pool_id="p")
        services.start_workflow(workflow_id="none")
    assert recorded.events == []


def test_record_events_adds_the_reporter_to_the_data_of_the_block_only() -> None:
    with record_events(reported_by="airflow"):
        services.create_pool(pool_id="theirs")
    services.create_pool(pool_id="ours")
    theirs, ours = (json.loads(data) for data in Event.objects.order_by("seq").values_list("data", flat=True))
    assert theirs["reported_by"] == "airflow"
    assert "reported_by" not in ours
