"""State of a whole test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.postgres import Postgres

LONG_REDIS_TIMEOUTS = {"MAHAVISHNU_PUBLISH_TIMEOUT_SECONDS": "20", "MAHAVISHNU_BROKER_TIMEOUT_SECONDS": "20"}
"""Timeouts that a busy machine does not reach. After such a timeout, a command logs a warning and continues without
Redis. Tests of a Redis that hangs set their own."""

run_directory = pytest.StashKey[Path]()
"""The folder that `tests/conftest.py` creates for the run: the var folder of the test process."""

static_directory = pytest.StashKey[str]()
"""The folder of the collected static files, which all processes of the run share."""

run_postgres = pytest.StashKey[Postgres]()
"""The cluster of the run, if Django's database is on it."""
