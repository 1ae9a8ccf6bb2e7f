"""`orchestration.db.before_commit`: an item that no writer would write."""

from __future__ import annotations

import pytest
from django.utils import timezone

from orchestration.db import before_commit
from orchestration.models.pool_counters import PoolCountersMoved


def test_collect_rejects_an_item_without_a_writer() -> None:
    with pytest.raises(LookupError, match=r"^No writer of str is installed on the database 'default'; installed on: "):
        before_commit.collect("item")


def test_pool_counters_of_another_database_are_rejected() -> None:
    with pytest.raises(LookupError, match=r"^No writer of PoolCountersMoved is installed on the database 'other'"):
        before_commit.collect(PoolCountersMoved("pool", timezone.now()), using="other")
