"""`manage.py serve`: everything one machine needs, in one process group that stops together."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db import connections

from mahavishnu_site.serve import procfile, supervisor
from mahavishnu_site.serve.listener import CannotListenError, bound_socket
from mahavishnu_site.serve.valkey import is_listening
from mahavishnu_site.var_dir import ensure_socket_directory, valkey_socket
from orchestration.bounds import OutOfBounds, whole_number_within
from orchestration.sdk.workflow import DEFAULT_POOL


class Command(BaseCommand):
    help = (
        "Migrates the database and serves until it is stopped: daphne, a worker, a scheduler and, unless REDIS_URL is "
        "set, a Valkey."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--processes",
            type=number_of_processes,
            default=settings.MAHAVISHNU_PROCESSES,
            help="How many daphne processes listen on the one port (MAHAVISHNU_PROCESSES, which is %(default)s).",
        )

    def handle(self, *args: Any, processes: int, **options: Any) -> None:
        host, port = settings.MAHAVISHNU_HOST, settings.MAHAVISHNU_PORT
        refuse_unusable_address(host, port)
        if settings.MAHAVISHNU_EMBEDS_VALKEY:
            refuse_shared_var_dir()
        accounts = self.migrate()
        self.announce(host, port, processes=processes, accounts=accounts)
        # One process needs no parent: daphne opens the port itself.
        web = "web" if processes == 1 else "web_processes"
        parts = (*(["valkey"] if settings.MAHAVISHNU_EMBEDS_VALKEY else []), web, "worker", "scheduler")
        environment = procfile.environment(os.environ, host=host, port=port)
        environment["MAHAVISHNU_PROCESSES"] = str(processes)
        drain_timeout_seconds = settings.MAHAVISHNU_LIMITS.drain_timeout_seconds
        sys.exit(supervisor.run(parts, environment=environment, drain_timeout_seconds=drain_timeout_seconds))

    def migrate(self) -> bool:
        """Bring the database up to date, and return whether anyone can log in to the admin."""
        try:
            call_command("migrate", verbosity=0, interactive=False)
            return get_user_model()._default_manager.filter(is_staff=True).exists()
        except DatabaseError as error:
            reason = " ".join(str(error).split())
            raise CommandError(f"The database that DATABASE_URL names cannot be used: {reason}") from error
        finally:
            # The parts are started as copies of this process, and a connection does not bear copying.
            connections.close_all()

    def announce(self, host: str, port: int, *, processes: int, accounts: bool) -> None:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        stages = settings.MAHAVISHNU_ENGINE.worker_concurrency
        lines = [
            f"Mahavishnu serves ws://{address}" + (f" with {processes} processes" if processes > 1 else ""),
            f"  health  http://{address}/health",
            f"  admin   http://{address}/admin/",
            f"  worker  pool {DEFAULT_POOL}, {stages} {'stage' if stages == 1 else 'stages'} at a time",
            f"  data    {settings.MAHAVISHNU_VAR_DIR}",
        ]
        if not accounts:
            lines.append(f"An account for the admin: {sys.executable} manage.py createsuperuser")
        lines.append("Ctrl-C stops it.")
        self.stdout.write("\n".join(lines))
        self.stdout.flush()


def number_of_processes(value: str) -> int:
    try:
        return whole_number_within(value, minimum=1, maximum=settings.MAX_PROCESSES)
    except OutOfBounds as error:
        raise argparse.ArgumentTypeError(f"expected {error}") from None


def refuse_unusable_address(host: str, port: int) -> None:
    """Raise `CommandError`, in words, when nobody could listen there."""
    try:
        bound_socket(host, port).close()
    except CannotListenError as error:
        raise CommandError(error.reason) from error


def refuse_shared_var_dir() -> None:
    """Raise `CommandError` when the var folder is another running server's."""
    path = valkey_socket(settings.MAHAVISHNU_VAR_DIR)
    try:
        ensure_socket_directory(path)
    except OSError as error:
        raise CommandError(f"The Valkey socket cannot be made: {error}.") from error
    if is_listening(path):
        raise CommandError(
            f"Another server uses the folder {settings.MAHAVISHNU_VAR_DIR}. "
            "Stop it, or set MAHAVISHNU_VAR_DIR to another folder."
        )
