"""The output of management commands: every command of the project escapes what it prints."""

from __future__ import annotations

import io

import pytest
from django.apps import apps
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError

from orchestration.management.output import EscapingCommand

OURS = sorted(name for name, app in get_commands().items() if app in ("mahavishnu_site", "realtime", "orchestration"))


@pytest.mark.parametrize("name", OURS)
def test_command_escapes_its_output(name: str) -> None:
    command: BaseCommand = load_command_class(get_commands()[name], name)
    assert isinstance(command, EscapingCommand)


def test_every_application_with_commands_is_covered() -> None:
    with_commands = {app for app in get_commands().values() if not app.startswith("django.")}
    assert (
        with_commands
        <= {"mahavishnu_site", "realtime", "orchestration"}
        <= {app.name for app in apps.get_app_configs()}
    )


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
