"""`manage.py serve`: everything one machine needs, in one process group that stops together."""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.db import connections

from mahavishnu_site import procfile, supervisor
from mahavishnu_site.embedded_valkey import is_listening
from mahavishnu_site.var_dir import ensure_socket_directory, valkey_socket

EXPECTED_HOST = "expected an address of this machine, such as 127.0.0.1 or 0.0.0.0"


class Command(BaseCommand):
    help = "Migrates the database and serves until it is stopped: daphne and, unless REDIS_URL is set, a Valkey."

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = settings.MAHAVISHNU_HOST, settings.MAHAVISHNU_PORT
        refuse_unusable_address(host, port)
        if settings.MAHAVISHNU_EMBEDS_VALKEY:
            refuse_shared_var_dir()
        accounts = self.migrate()
        self.announce(host, port, accounts=accounts)
        parts = ("valkey", "web") if settings.MAHAVISHNU_EMBEDS_VALKEY else ("web",)
        sys.exit(supervisor.run(parts, environment=procfile.environment(os.environ, host=host, port=port)))

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

    def announce(self, host: str, port: int, *, accounts: bool) -> None:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [
            f"Mahavishnu serves ws://{address}",
            f"  health  http://{address}/health",
            f"  admin   http://{address}/admin/",
            f"  data    {settings.MAHAVISHNU_VAR_DIR}",
        ]
        if not accounts:
            lines.append(f"An account for the admin: {sys.executable} manage.py createsuperuser")
        lines.append("Ctrl-C stops it.")
        self.stdout.write("\n".join(lines))
        self.stdout.flush()


def refuse_unusable_address(host: str, port: int) -> None:
    """Raise `CommandError`, in words, when nobody could listen there."""
    if port == 0:
        raise CommandError("MAHAVISHNU_PORT='0': expected a whole number from 1 to 65535, so that clients can know it.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As daphne does: connections of the last server that still linger do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise CommandError(
            f"MAHAVISHNU_HOST={host!r}: expected an address of this machine ({error.strerror})."
        ) from error
    except OSError as error:
        raise CommandError(reason_not_to_listen(host, port, error)) from error


def reason_not_to_listen(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is taken by another program. Stop it, or set MAHAVISHNU_PORT to a free port."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"MAHAVISHNU_HOST={host!r}: {EXPECTED_HOST}."
    if error.errno == errno.EACCES:
        return f"Port {port} is for the system's own services. Set MAHAVISHNU_PORT to one from 1024 to 65535."
    return f"Nobody can listen on {host}, port {port}: {error.strerror}."


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
