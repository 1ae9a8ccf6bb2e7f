"""`orchestration.db.before_commit`: an item that no writer would write, and recorded items."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from orchestration.db import before_commit
from orchestration.models.pool_counters import PoolCountersMoved
from realtime.events.receivers import announce_as_given


def test_collect_rejects_an_item_without_a_writer() -> None:
    with pytest.raises(LookupError, match=r"^No writer of str is installed on the database 'default'; installed on: "):
        before_commit.collect("item")


def test_pool_counters_of_another_database_are_rejected() -> None:
    with pytest.raises(LookupError, match=r"^No writer of PoolCountersMoved is installed on the database 'other'"):
        before_commit.collect(PoolCountersMoved("pool", timezone.now()), using="other")


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_recorded_items_are_those_that_were_not_rolled_back() -> None:
    with before_commit.recorded() as items, before_commit.recorded() as others:
        announce("committed")
        with transaction.atomic():
            announce("in a transaction")
            with suppress(ZeroDivisionError), transaction.atomic():
                announce("rolled back")
                raise ZeroDivisionError
            assert names(items()) == ["committed", "in a transaction"]
        with suppress(ZeroDivisionError), transaction.atomic():
            announce("rolled back")
            raise ZeroDivisionError
    announce("afterwards")
    assert names(items()) == names(others()) == ["committed", "in a transaction"]


def announce(name: str) -> None:
    announce_as_given(name, data={}, rooms=(), timestamp=timezone.now())


def names(items: list[Any]) -> list[str]:
    return [item.name for item in items]
