"""The installed package: `mahavishnu serve` in an empty folder, and the apps in another Django project."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.programs import PROJECT_DIR
from tests.harness.serve import Serve
from tests.harness.server import clean_environment

TIMEOUT_SECONDS = 120

SOURCES = ("mahavishnu_site", "realtime", "orchestration", "demonstrations")
FILES = ("pyproject.toml", "requirements.txt", "README.md", "LICENSE")

OTHER_PROJECT = """
from pathlib import Path

SECRET_KEY = "secret"
INSTALLED_APPS = ["orchestration", "realtime"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(__file__).with_name("db.sqlite3")}}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
CELERY_BROKER_URL = "memory://"
USE_TZ = True
"""

RUN_WORKFLOW = """
import celery, django
from django.core.management import call_command

django.setup()
call_command("check", fail_level="WARNING")
call_command("migrate")

import realtime.consumers, realtime.health, realtime.views
from orchestration import services
from realtime.models import Event

celery.Celery("project", broker="memory://")
services.create_workflow(workflow_id="wf", adapter="python", prompt="", stages=["only"])
services.start_workflow(workflow_id="wf")
print(*Event.objects.order_by("pk").values_list("name", flat=True))
"""


WORKFLOWS = """
from orchestration.sdk import workflow

@workflow()
def count_stock(prompt: str) -> list[str]:
    return []
"""


def run(*command: str | Path, directory: Path, **variables: str) -> str:
    """Run a command that has to succeed, and return its output."""
    done = subprocess.run(
        [*map(str, command)],
        cwd=directory,
        env={**clean_environment(), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a new environment, and return the folder of its commands.

    The dependencies are those of this environment, so nothing is downloaded.
    """
    directory = tmp_path_factory.mktemp("wheel")
    source, environment = directory / "source", directory / "environment"
    for name in SOURCES:
        shutil.copytree(PROJECT_DIR / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(PROJECT_DIR / name, source)
    venv.create(environment, symlinks=True)
    libraries = sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)})
    Path(libraries, "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    # Pip builds a wheel of the source, and installs that. Pip, too, is the one of this environment.
    pip = (environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "--no-deps", "--no-index", "--no-build-isolation", source, directory=directory)
    return environment / "bin"


@pytest.fixture
def installed_serve(commands: Path, tmp_path: Path) -> Iterator[Serve]:
    empty = tmp_path / "empty"
    empty.mkdir()
    run = Serve((str(commands / "mahavishnu"), "serve"), var_dir=empty / "var", directory=empty, MAHAVISHNU_VAR_DIR="")
    yield run
    run.close()


def test_wheel_serves_from_an_empty_folder(installed_serve: Serve) -> None:
    health = installed_serve.wait_healthy()
    assert (health["status"], health["port"]) == ("healthy", installed_serve.port)
    assert (installed_serve.var_dir / "mahavishnu.sqlite3").exists()
    installed_serve.main.terminate()
    installed_serve.wait_ended()
    assert installed_serve.main.returncode == 0


def test_wheel_has_the_commands_of_manage_py(commands: Path, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "workflows.py").write_text(WORKFLOWS)
    python = commands / "python"
    run(python, "-m", "mahavishnu_site", "migrate", "--verbosity=0", directory=tmp_path, MAHAVISHNU_APPS="shop")
    listed = run(commands / "mahavishnu", "run_workflow", directory=tmp_path, MAHAVISHNU_APPS="shop")
    assert "count_stock" in listed
    assert "source_report" in listed


def test_wheel_apps_run_in_another_django_project(commands: Path, tmp_path: Path) -> None:
    (tmp_path / "project_settings.py").write_text(OTHER_PROJECT)
    variables = {"DJANGO_SETTINGS_MODULE": "project_settings", "PYTHONPATH": str(tmp_path)}
    output = run(commands / "python", "-c", RUN_WORKFLOW, directory=tmp_path, **variables)
    assert "no issues" in output
    assert "realtime.0001_initial... OK" in output
    assert "workflow.started" in output.split(os.linesep)[-2]
