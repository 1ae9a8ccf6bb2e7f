"""The test run: its folder and database, server logs in failure reports, and no skipped test under CI."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path

import django
import hypothesis
import pytest

from tests.harness.postgres import Postgres
from tests.harness.run import LONG_REDIS_TIMEOUTS, run_directory, run_postgres, static_directory
from tests.harness.server import MahavishnuServer
from tests.harness.static_files import FOLDER_VARIABLE

UNDER_CI = os.environ.get("CI") == "true"

LOG_LINES_SHOWN = 200

PROJECT_VARIABLES = frozenset({"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DEBUG", "ALLOWED_HOSTS"})

pytest_plugins = ["tests.harness.fixtures", "tests.harness.engine_fixtures", "tests.harness.browser"]

# A slow example is due to a slow machine.
hypothesis.settings.register_profile(
    "tests", hypothesis.settings(), deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database",
        choices=("sqlite", "postgres"),
        default="sqlite",
        help="The database of the tests that use Django's. Combine postgres with -m both_databases.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Set up the environment, then Django; pytest-django does not, because no settings are named before.

    With `-n`, each process that runs tests does so. The process that starts them passes its environment to them, and
    adds only where they share static files.
    """
    if not hasattr(config, "workerinput"):
        config.stash[static_directory] = tempfile.mkdtemp(prefix="mv-static-", dir="/tmp")
        os.environ[FOLDER_VARIABLE] = config.stash[static_directory]
    if not runs_tests(config):
        return
    # A short path, because it will contain a socket. Outside the project, so that no user data is changed.
    directory = Path(tempfile.mkdtemp(prefix="mv-tests-", dir="/tmp"))
    config.stash[run_directory] = directory
    # `nohup` and the shell's `&` ignore these signals, and each process that a test starts would inherit that.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in list(os.environ):
        if name.startswith("MAHAVISHNU_") or name in PROJECT_VARIABLES:
            del os.environ[name]
    os.environ["DJANGO_SETTINGS_MODULE"] = "mahavishnu_site.settings"
    os.environ["MAHAVISHNU_VAR_DIR"] = str(directory)
    os.environ["REDIS_URL"] = f"unix://{directory}/valkey.sock"
    os.environ.update(LONG_REDIS_TIMEOUTS)
    if config.getoption("--database") == "postgres":
        postgres = Postgres()
        config.stash[run_postgres] = postgres
        os.environ["DATABASE_URL"] = postgres.create_database()
    django.setup()
    # Imported here, because it requires Django's settings.
    from tests.harness.database import delete_rows_instead_of_flush

    delete_rows_instead_of_flush()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all browser tests in one event loop: that of the fixture `browser`."""
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def pytest_collection_finish() -> None:
    # Modules and test items live until the end: without this, each full collection would visit them all.
    gc.freeze()


def runs_tests(config: pytest.Config) -> bool:
    """Return whether this process runs tests. With `-n`, the first process only starts others."""
    return hasattr(config, "workerinput") or not config.getoption("numprocesses", default=None)


def pytest_unconfigure(config: pytest.Config) -> None:
    if run_postgres in config.stash:
        config.stash[run_postgres].close()
    if run_directory in config.stash:
        shutil.rmtree(config.stash[run_directory])
    if static_directory in config.stash:
        shutil.rmtree(config.stash[static_directory])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if UNDER_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped; under CI every test must run: {report.longrepr}"
    if report.failed:
        for server in MahavishnuServer.running:
            lines = server.log_text().splitlines()[-LOG_LINES_SHOWN:]
            report.sections.append((f"log of the server on port {server.port}", "\n".join(lines)))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if UNDER_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped; under CI every test must run: {report.longrepr}"
    return report
