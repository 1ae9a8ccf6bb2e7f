"""The fixture `serve`, which starts the command as on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.serve import MANAGE, Serve, StartServe
from tests.harness.services import PROJECT_DIR


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[StartServe]:
    started: list[Serve] = []

    def start(command: tuple[str, ...] = MANAGE, **variables: str) -> Serve:
        run = Serve(command, var_dir=tmp_path / f"var{len(started)}", directory=PROJECT_DIR, **variables)
        started.append(run)
        return run

    yield start
    for run in started:
        run.close()
