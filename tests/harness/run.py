"""What a run of the tests carries from its start to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.postgres import Postgres

run_directory = pytest.StashKey[Path]()
"""The folder that `tests/conftest.py` makes for the run: the var folder of the test process."""

run_postgres = pytest.StashKey[Postgres]()
"""The cluster of the run, when Django's own database is on it."""
