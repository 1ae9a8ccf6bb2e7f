"""The time zone of the processes: that of the machine, not UTC."""

from __future__ import annotations

from pathlib import Path

import pytest

from mahavishnu_site.local_time import local_time_zone
from tests.harness.programs import run_to_end
from tests.harness.server import clean_environment

ZONES = Path("/usr/share/zoneinfo")


@pytest.mark.parametrize(
    ("variable", "zone"),
    [
        ("America/New_York", "America/New_York"),
        (":Europe/Berlin", "Europe/Berlin"),
        ("UTC", "UTC"),
        ("Mars/Olympus", "UTC"),
        ("<+03>-3", "UTC"),
        ("../../etc/passwd", "UTC"),
        ("/etc/passwd", "UTC"),
    ],
)
def test_variable_names_the_zone(variable: str, zone: str, tmp_path: Path) -> None:
    assert local_time_zone({"TZ": variable}, local_time_file=tmp_path / "missing") == zone


def test_machine_names_the_zone_without_a_variable(tmp_path: Path) -> None:
    link = tmp_path / "localtime"
    assert local_time_zone({}, local_time_file=link) == "UTC"
    link.symlink_to(ZONES / "Asia/Tokyo")
    assert local_time_zone({}, local_time_file=link) in ("Asia/Tokyo", "Japan")
    link.unlink()
    link.write_bytes(b"TZif2")
    assert local_time_zone({}, local_time_file=link) == "UTC"


def test_processes_keep_the_zone_of_the_worker(tmp_path: Path) -> None:
    code = "import os, time, django; django.setup(); print(os.environ['TZ'], time.strftime('%z', time.localtime(0)))"
    variables = {"MAHAVISHNU_VAR_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "mahavishnu_site.settings"}
    environment = {**clean_environment(), **variables, "TZ": "America/New_York"}
    done = run_to_end("-c", code, environment=environment)
    assert done.stdout.split() == ["America/New_York", "-0500"]
