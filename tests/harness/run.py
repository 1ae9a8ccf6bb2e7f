"""What a run of the tests carries from its start to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.postgres import Postgres

PATIENT_WITH_REDIS = {"MAHAVISHNU_PUBLISH_TIMEOUT_SECONDS": "20", "MAHAVISHNU_BROKER_TIMEOUT_SECONDS": "20"}
"""Longer than a machine that is busy holds up anybody: a command says when a push or a message took too long, and then
goes on without. Tests of a Redis that hangs set what they wait for."""

run_directory = pytest.StashKey[Path]()
"""The folder that `tests/conftest.py` makes for the run: the var folder of the test process."""

run_postgres = pytest.StashKey[Postgres]()
"""The cluster of the run, when Django's own database is on it."""
