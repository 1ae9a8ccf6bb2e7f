"""`manage.py serve`: everything one machine needs, started and stopped together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db import connections

from mahavishnu_site.serve import procfile
from mahavishnu_site.serve.banner import banner
from mahavishnu_site.serve.listener import CannotListenError, bound_socket
from mahavishnu_site.serve.prefixed_output import PrefixedOutput
from mahavishnu_site.serve.process_manager import ProcessManager
from mahavishnu_site.serve.readiness import ReadyText, Target, command_of
from mahavishnu_site.serve.replica import Program, signalled_by_parent_death
from mahavishnu_site.serve.valkey import is_listening
from mahavishnu_site.static_files import StaticFilesError, collect_static_files
from mahavishnu_site.var_dir import ensure_socket_directory, valkey_socket
from orchestration.checks import WORKFLOWS_TAG
from orchestration.management.output import EscapingCommand
from realtime.daphne_server.tls import certificate_problem
from realtime.exposure import SETTINGS_REASON, is_local_only, refusal
from realtime.management.arguments import whole_number
from realtime.management.server_address import LOOPBACK_OF_WILDCARD, page_url, server_prefix, url_host

STOP_MARGIN_SECONDS = 4.0
"""With `MAHAVISHNU_DRAIN_TIMEOUT_SECONDS` added, how long a program may run after SIGTERM before it is killed. It must
exceed the margin that `web_processes` adds for its own processes (`prefork.KILL_MARGIN_SECONDS`)."""

VALKEY = "valkey"
PAGES = "pages"

# One process with its own port: it needs no balancing of connections.
PAGES_VARIABLES = {"MAHAVISHNU_SERVES": "pages", "MAHAVISHNU_PROCESSES": "1"}


class Command(EscapingCommand):
    """The command `serve`."""

    help = (
        "Migrates the database, and runs a server, a worker, a scheduler and, unless REDIS_URL is set, a Valkey, until "
        "it is stopped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--processes",
            type=whole_number(minimum=1, maximum=settings.MAX_PROCESSES),
            default=settings.MAHAVISHNU_PROCESSES,
            help="Number of server processes behind one port (default: MAHAVISHNU_PROCESSES, which is %(default)s).",
        )

    def handle(self, *args: Any, processes: int, skip_checks: bool, **options: Any) -> None:
        host, port = settings.MAHAVISHNU_HOST, settings.MAHAVISHNU_PORT
        pages_port = settings.MAHAVISHNU_PAGES_PORT
        if settings.MAHAVISHNU_EXPOSED and is_local_only():
            raise CommandError(refusal(SETTINGS_REASON))
        if problem := certificate_problem():
            raise CommandError(problem)
        refuse_unusable_address(host, port)
        if pages_port:
            refuse_unusable_address(host, pages_port, variable="MAHAVISHNU_PAGES_PORT")
        if settings.MAHAVISHNU_EMBEDS_VALKEY:
            refuse_shared_var_dir()
        try:
            # The programs find them collected.
            collect_static_files(settings.MAHAVISHNU_STATIC_DIR)
        except StaticFilesError as error:
            raise CommandError(str(error)) from error
        has_staff = self.migrate()
        if not skip_checks:
            refuse_broken_workflows()
        environment = procfile.environment(os.environ, host=host, port=port, pages_port=pages_port)
        environment["MAHAVISHNU_PROCESSES"] = str(processes)
        programs = programs_of(
            processes=processes, embeds_valkey=settings.MAHAVISHNU_EMBEDS_VALKEY, separates_pages=bool(pages_port)
        )
        output = PrefixedOutput(sys.stdout.fileno(), names=[program.name for program in programs])
        manager = ProcessManager(
            programs,
            stop_timeout_seconds=settings.MAHAVISHNU_LIMITS.drain_timeout_seconds + STOP_MARGIN_SECONDS,
            environment=environment,
            directory=settings.BASE_DIR,
            output=output,
            restart_problem=certificate_problem,
        )
        with contextlib.closing(start_banner(processes=processes, has_staff=has_staff)) as text:
            output.add_plain(text)
            sys.exit(manager.run())

    def migrate(self) -> bool:
        """Migrate the database, and return whether an account for the admin exists."""
        try:
            call_command("migrate", verbosity=0, interactive=False)
            return get_user_model()._default_manager.filter(is_staff=True).exists()
        except DatabaseError as error:
            reason = " ".join(str(error).split())
            raise CommandError(f"The database that DATABASE_URL names cannot be used: {reason}") from error
        finally:
            # This process does not use the database again.
            connections.close_all()


def start_banner(*, processes: int, has_staff: bool) -> ReadyText:
    """Start a process that prints the banner when the page and the WebSocket answer."""
    host = LOOPBACK_OF_WILDCARD.get(settings.MAHAVISHNU_HOST, settings.MAHAVISHNU_HOST)
    target = Target(
        host=host,
        host_header=url_host(settings.MAHAVISHNU_HOST),
        port=str(settings.MAHAVISHNU_PORT),
        pages_port=str(settings.MAHAVISHNU_PAGES_PORT or settings.MAHAVISHNU_PORT),
        page_path=f"{server_prefix()}/{'' if page_url('overview') else 'health'}",
        websocket_path=f"{server_prefix()}/ws",
        uses_tls="1" if settings.MAHAVISHNU_TLS_CERTIFICATE else "0",
    )
    process = subprocess.Popen(
        command_of(target),
        cwd=settings.BASE_DIR,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=signalled_by_parent_death(signal.SIGTERM),
    )
    assert process.stdin is not None
    # A pipe holds this much, so the process need not have read it.
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(banner(processes=processes, has_staff=has_staff).encode("utf-8", "backslashreplace"))
    return ReadyText(process)


def programs_of(*, processes: int, embeds_valkey: bool, separates_pages: bool = False) -> list[Program]:
    """Return the lines of the Procfile that this run needs, in the order of their start."""
    # One process needs no parent: daphne opens the port itself.
    web = "web" if processes == 1 else "web_processes"
    names = [*([VALKEY] if embeds_valkey else []), web, *([PAGES] if separates_pages else []), "worker", "scheduler"]
    variables = {web: {"MAHAVISHNU_SERVES": "websocket"}, PAGES: PAGES_VARIABLES} if separates_pages else {}
    commands = procfile.commands()
    return [
        Program(
            name=name,
            command=commands[name],
            stops_last=name == VALKEY,
            restarts_on_signal=name in ("web", PAGES),
            forwards_restart=name == "web_processes",
            environment=variables.get(name, {}),
        )
        for name in names
    ]


def refuse_unusable_address(host: str, port: int, *, variable: str = "MAHAVISHNU_PORT") -> None:
    """Raise `CommandError` if no server can listen there. `variable` names the setting of the port."""
    try:
        bound_socket(host, port).close()
    except CannotListenError as error:
        raise CommandError(error.reason.replace("MAHAVISHNU_PORT", variable)) from error


def refuse_broken_workflows() -> None:
    """Raise `CommandError` if a `workflows` module cannot be imported.

    Another process imports them: this one runs as long as the server, and needs no code of users.
    """
    done = subprocess.run(
        [sys.executable, "-m", "mahavishnu_site", "check", "--tag", WORKFLOWS_TAG],
        cwd=settings.BASE_DIR,
        env={**os.environ, "MAHAVISHNU_ROLE": "command"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        preexec_fn=signalled_by_parent_death(signal.SIGTERM),
        check=False,
    )
    if done.returncode:
        raise CommandError(f"Nothing was started: a workflow cannot be imported.\n{done.stderr.strip()}")


def refuse_shared_var_dir() -> None:
    """Raise `CommandError` if another running server uses the var folder."""
    path = valkey_socket(settings.MAHAVISHNU_VAR_DIR)
    try:
        ensure_socket_directory(path)
    except OSError as error:
        raise CommandError(f"The folder of the Valkey socket cannot be used: {error}.") from error
    if is_listening(path):
        raise CommandError(
            f"Another server uses the folder {settings.MAHAVISHNU_VAR_DIR}. "
            "Stop it, or set MAHAVISHNU_VAR_DIR to another folder."
        )
