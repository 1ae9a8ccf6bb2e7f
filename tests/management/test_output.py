"""The output of management commands: every command of the project escapes what it prints."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.apps import apps
from django.core.checks import Warning
from django.core.checks.registry import registry
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError, SystemCheckError

from orchestration import checks
from orchestration.checks import WORKFLOWS_TAG
from orchestration.management.output import EscapingCommand
from tests.harness.programs import PROJECT_DIR

OURS = sorted(name for name, app in get_commands().items() if app in ("mahavishnu_site", "realtime", "orchestration"))


@pytest.mark.parametrize("name", OURS)
def test_command_escapes_its_output(name: str) -> None:
    command: BaseCommand = load_command_class(get_commands()[name], name)
    assert isinstance(command, EscapingCommand)


def test_every_application_with_commands_is_covered() -> None:
    with_commands = set(get_commands().values())
    ours = {app.name for app in apps.get_app_configs() if PROJECT_DIR / ".venv" not in Path(app.path).parents}
    assert ours & with_commands == {"mahavishnu_site", "realtime", "orchestration"}
    # The commands of django-axes that are left print numbers only.
    assert {app for app in with_commands - ours if not app.startswith("django.")} == {"axes"}


@pytest.mark.django_db
def test_names_of_failed_logins_are_escaped() -> None:
    AccessAttempt.objects.create(username="a\n127.0.0.1\troot\x1b[2J", ip_address="127.0.0.1", failures_since_start=3)
    stdout = io.StringIO()
    call_command("axes_list_attempts", stdout=stdout)
    assert stdout.getvalue() == "127.0.0.1\ta\\n127.0.0.1\\troot\\x1b[2J\t3\n"


class Speak(EscapingCommand):
    """Prints what it is given."""

    requires_system_checks = ()

    def handle(self, *args: str, **options: object) -> str:
        self.stdout.write("\x1b[2J\tone\n\u202etwo")
        self.stderr.write("\x9b2J", style_func=lambda text: f"\x1b[31m{text}\x1b[0m")
        return "\x07returned"


def test_streams_of_a_command_escape_all_but_line_breaks_tabs_and_colours() -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    call_command(Speak(), stdout=stdout, stderr=stderr)
    assert stdout.getvalue() == "\\x1b[2J\tone\n\\u202etwo\n\\x07returned\n"
    assert stderr.getvalue() == "\x1b[31m\\x9b2J\n\x1b[0m"
    first = io.StringIO()
    call_command(Speak(stdout=first, stderr=io.StringIO()))
    assert first.getvalue() == stdout.getvalue()


def test_error_of_a_command_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    class Refuse(EscapingCommand):
        requires_system_checks = ()

        def handle(self, *args: str, **options: object) -> None:
            raise CommandError("no \x1b]0;title\x07")

    with pytest.raises(SystemExit):
        Refuse().run_from_argv(["manage.py", "refuse"])
    assert capsys.readouterr().err == "CommandError: no \\x1b]0;title\\x07\n"


class Check(EscapingCommand):
    """Runs the system checks and nothing else."""

    def handle(self, *args: str, **options: object) -> None: ...


def test_command_runs_every_system_check_except_the_import_of_workflows(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(id: str, *tags: str) -> Any:
        def check(**_: object) -> list[Warning]:
            return [Warning("Found", id=id)]

        check.tags = tags  # type: ignore[attr-defined]
        return check

    ours = {found("without_tag"), found("with_tag", "models"), found("with_our_tag", WORKFLOWS_TAG)}
    monkeypatch.setattr(registry, "registered_checks", {*ours, checks.check_workflows})
    monkeypatch.setattr(checks, "broken_modules", lambda: ["shop.workflows cannot be imported"])
    stderr = io.StringIO()
    call_command(Check(), skip_checks=False, stderr=stderr)
    assert re.findall(r"\((\w+)\) Found", stderr.getvalue()) == ["with_our_tag", "with_tag", "without_tag"]
    assert "shop" not in stderr.getvalue()
    with pytest.raises(SystemCheckError, match=r"shop\.workflows cannot be imported"):
        call_command("check", "--tag", WORKFLOWS_TAG)
    monkeypatch.setattr(Check, "requires_system_checks", [WORKFLOWS_TAG])
    with pytest.raises(SystemCheckError, match=r"shop\.workflows cannot be imported"):
        call_command(Check(), skip_checks=False)
