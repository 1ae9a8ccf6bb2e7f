"""`docs/own-project.md`: its files and commands, with the installed package, from an empty folder."""

from __future__ import annotations

import json
import shlex
import shutil
import site
import sqlite3
import subprocess
import sysconfig
import urllib.request
import venv
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from orchestration.processes import process_tree
from tests.docs.markdown import blocks, page
from tests.harness.ports import free_port
from tests.harness.processes import kill_at_once
from tests.harness.programs import PROJECT_DIR
from tests.harness.serve import Serve
from tests.harness.server import clean_environment
from tests.harness.valkey import Valkey
from tests.harness.waiting import wait_until

PAGE = page("docs/own-project.md")
TIMEOUT_SECONDS = 120

SOURCES = ("mahavishnu_site", "dashboard", "realtime", "orchestration", "demonstrations")
FILES = ("pyproject.toml", "requirements.txt", "README.md", "LICENSE")

AT_END = ", at its end"


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


class OwnProject:
    """A folder with the files of one section of the page, in which the commands of the section run.

    Args:
        section: The heading.
        folder: The folder.
        commands: The folder of the installed commands.
        replaced: Texts of the page that are others in a test, such as the URL of the Redis.
    """

    def __init__(self, section: str, *, folder: Path, commands: Path, replaced: dict[str, str] | None = None) -> None:
        self.folder = folder
        self._commands = commands
        self._replaced = replaced or {}
        self._shell = [
            shlex.split(self._replace(line), comments=True)
            for block in blocks(PAGE, language="sh")
            if block.section == section
            for line in block.text.splitlines()
        ]
        exported = [words[1].partition("=") for words in self._shell if words[0] == "export"]
        self.variables = {name: value for name, _, value in exported}

    def write_files(self, section: str) -> None:
        """Write the files of a section. The first line of each block names its file."""
        for block in blocks(PAGE):
            if block.section == section and block.language in ("python", "toml"):
                name, _, text = block.text.removeprefix("# ").partition("\n")
                path = self.folder / name.removesuffix(AT_END)
                path.parent.mkdir(exist_ok=True)
                before = path.read_text() if name.endswith(AT_END) else ""
                path.write_text(before + self._replace(text))

    def command(self, *words: str) -> tuple[str, ...]:
        """Return the command of the section that begins with these words."""
        (found,) = (line for line in self._shell if tuple(line[: len(words)]) == words)
        return (str(self._commands / found[0]), *found[1:])

    def run(self, *words: str, **variables: str) -> str:
        """Run the command of the section that begins with these words, and return its output."""
        return run(*self.command(*words), directory=self.folder, **self.variables, **variables)

    def _replace(self, text: str) -> str:
        for shown, value in self._replaced.items():
            text = text.replace(shown, value)
        return text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    empty = tmp_path / "project"
    empty.mkdir()
    return empty


@contextmanager
def served(project: OwnProject) -> Iterator[Serve]:
    """Run `mahavishnu serve` as the section does, until the end of the block."""
    command, directory = project.command("mahavishnu", "serve"), project.folder
    # The files of the wheel, which are not those of the source.
    files = {"MAHAVISHNU_STATIC_DIR": str(Path(command[0]).with_name("static"))}
    serve = Serve(command, var_dir=directory / "var", directory=directory, output=None, **project.variables, **files)
    try:
        serve.wait_healthy()
        yield serve
    finally:
        serve.close()


def test_wheel_has_the_scripts_and_templates_of_the_pages(commands: Path) -> None:
    (installed,) = commands.parent.glob("lib/*/site-packages/dashboard")
    for folder in ("static", "templates"):
        source = PROJECT_DIR / "dashboard" / folder
        names = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
        found = {path.relative_to(installed / folder) for path in (installed / folder).rglob("*") if path.is_file()}
        assert found == names


def test_wheel_has_the_javascript_client(commands: Path) -> None:
    (installed,) = commands.parent.glob("lib/*/site-packages/realtime/static/realtime/clients/*/mahavishnu.js")
    assert installed.read_bytes() == (PROJECT_DIR / "clients" / "javascript" / "mahavishnu.js").read_bytes()


@pytest.mark.chaos
def test_wheel_serves_workflows_only_from_their_folder(folder: Path, commands: Path) -> None:
    project = OwnProject("Workflows only", folder=folder, commands=commands)
    project.write_files("Workflows only")
    with served(project) as serve:
        assert (serve.var_dir / "mahavishnu.sqlite3").exists()
        output = project.run("mahavishnu", "run_workflow")
        assert output.splitlines()[-1].endswith('{"words":3}')
        serve.main.terminate()
        serve.wait_ended()
        assert serve.main.returncode == 0


def test_wheel_runs_a_workflow_with_its_own_models_and_its_test(folder: Path, commands: Path) -> None:
    project = OwnProject("Workflows with models", folder=folder, commands=commands)
    project.write_files("Workflows with models")
    project.run("mahavishnu", "makemigrations", "shop")
    with served(project) as serve:
        output = project.run("mahavishnu", "run_workflow")
        assert output.splitlines()[-1].endswith('{"items":2}')
        with closing(sqlite3.connect(serve.var_dir / "mahavishnu.sqlite3")) as database:
            assert database.execute("SELECT name, stock FROM shop_item ORDER BY name").fetchall() == [
                ("coffee", 1),
                ("tea", 2),
            ]
    tested = OwnProject("Test it", folder=folder, commands=commands)
    tested.write_files("Test it")
    assert "1 passed" in tested.run("python", "-m", "pytest")


@pytest.mark.chaos
def test_wheel_runs_in_an_existing_django_project(folder: Path, commands: Path, valkey: Valkey) -> None:
    section, port = "In an existing Django project", str(free_port())
    replaced = {"redis://127.0.0.1:6379/0": valkey.url, "--port 8000": f"--port {port}"}
    project = OwnProject(section, folder=folder, commands=commands, replaced=replaced)
    run(commands / "python", "-m", "django", "startproject", "mysite", ".", directory=folder)
    project.write_files(section)
    assert "no issues" in run(commands / "python", "manage.py", "check", directory=folder)
    assert "realtime.0001_initial... OK" in project.run("python", "manage.py", "migrate")
    programs = (("-m", "daphne"), ("-m", "celery"), ("manage.py", "run_scheduler"))
    with running([project.command("python", *words) for words in programs], project):
        output = project.run("python", "manage.py", "run_workflow")
        assert output.splitlines()[-1].endswith('{"words":3}')
        assert read_health(f"http://127.0.0.1:{port}/health")["status"] == "healthy"


@contextmanager
def running(programs: Iterable[tuple[str, ...]], project: OwnProject) -> Iterator[None]:
    """Run programs in the folder of a project, until the end of the block."""
    environment = {**clean_environment(), **project.variables}
    with (project.folder / "programs.log").open("wb") as log:
        started = [
            subprocess.Popen(
                command, cwd=project.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            for command in programs
        ]
        try:
            yield
        finally:
            for process in started:
                kill_at_once(process_tree(process.pid))
                process.wait()


def read_health(url: str) -> dict[str, Any]:
    """Return the answer of `/health`, as soon as there is one."""
    answers: list[dict[str, Any]] = []

    def answered() -> bool:
        with suppress(OSError), urllib.request.urlopen(url) as answer:
            answers.append(json.load(answer))
        return bool(answers)

    wait_until(answered, timeout_seconds=TIMEOUT_SECONDS, what=url)
    return answers[0]
