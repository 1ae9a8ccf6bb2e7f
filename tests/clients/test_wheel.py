"""The wheel of the Python client: what is in it, and that it works where nothing else is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.programs import PROJECT_DIR
from tests.harness.server import MahavishnuServer, clean_environment

SOURCE = PROJECT_DIR / "clients" / "python"
REQUIREMENTS = ("msgspec", "websockets")
TIMEOUT_SECONDS = 120

PROGRAM = """
import importlib.util, sys
from mahavishnu_client import __version__
from mahavishnu_client.sync import connect

assert importlib.util.find_spec("django") is None and importlib.util.find_spec("realtime") is None
url, workflow_id = sys.argv[1:]
with connect(url) as client:
    run = next(client.follow(workflow_id))
    print(__version__, run.status, run.stages_completed, run.total_stages, run.is_live)
    print(client.get_workflow_status(workflow_id).status)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("client")
    source = directory / "source"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps", "--no-index"),
        *("--no-build-isolation", "--wheel-dir", str(directory), str(source)),
    )
    (built,) = directory.glob("*.whl")
    return built


def run(*command: str) -> str:
    done = subprocess.run(
        command,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_wheel_has_the_modules_of_the_client_only(wheel: Path) -> None:
    assert wheel.name == "mahavishnu_client-1.0.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read("mahavishnu_client-1.0.0.dist-info/METADATA").decode()
    information = {name for name in names if name.startswith("mahavishnu_client-1.0.0.dist-info/")}
    package = SOURCE / "mahavishnu_client"
    modules = {str(path.relative_to(SOURCE)) for path in package.rglob("*.py")}
    assert names - information == {*modules, "mahavishnu_client/py.typed"}
    assert {Path(name).name for name in information} == {"METADATA", "RECORD", "WHEEL", "top_level.txt", "LICENSE"}
    required = {line.removeprefix("Requires-Dist: ") for line in metadata.splitlines() if "Requires-Dist" in line}
    assert required == {"msgspec~=0.22.0", "websockets~=17.4"}


def test_wheel_works_in_an_environment_with_its_requirements_only(
    wheel: Path, server: MahavishnuServer, unique: Callable[[str], str], tmp_path: Path
) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True)
    libraries = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    installed = Path(sysconfig.get_path("platlib"))
    # The requirements are those of this environment, so nothing is downloaded.
    for name in REQUIREMENTS:
        for path in (installed / name, *installed.glob(f"{name}-*.dist-info")):
            shutil.copytree(path, libraries / path.name)
    python = str(environment / "bin" / "python")
    run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python),
        *("install", "--quiet", "--no-index", str(wheel)),
    )
    workflow_id = unique("wf")
    server.services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["load", "report"])
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    assert run(python, str(program), server.ws_url, workflow_id).splitlines() == ["1.0.0 pending 0 2 True", "pending"]
