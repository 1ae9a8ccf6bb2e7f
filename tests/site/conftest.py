"""The fixture `serve`, which starts the command as on the command line, and `manage`, which runs a process manager."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.fixtures import NewDatabase
from tests.harness.programs import PROJECT_DIR
from tests.harness.serve import MANAGE, Serve, StartServe
from tests.site.managed_programs import Manage, Run


@pytest.fixture
def serve(tmp_path: Path, new_database: NewDatabase) -> Iterator[StartServe]:
    started: list[Serve] = []

    def start(
        command: tuple[str, ...] = MANAGE,
        *,
        folder: str = "var",
        migrated: bool = True,
        output: Path | None = None,
        **variables: str,
    ) -> Serve:
        var_dir = tmp_path / folder
        if migrated:
            var_dir.mkdir()
            new_database("sqlite", var_dir=var_dir)
        run = Serve(command, var_dir=var_dir, directory=PROJECT_DIR, output=output, **variables)
        started.append(run)
        return run

    yield start
    for run in started:
        run.close()


@pytest.fixture
def manage(tmp_path: Path) -> Iterator[Manage]:
    started: list[Run] = []

    def start(programs: dict[str, str | dict[str, Any]], **options: Any) -> Run:
        started.append(Run(programs, folder=tmp_path, **options))
        return started[-1]

    yield start
    for run in started:
        run.close()
