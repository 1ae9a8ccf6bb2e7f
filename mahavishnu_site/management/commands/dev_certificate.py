"""`manage.py dev_certificate`: a certificate for development, and how to use it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from mahavishnu_site.dev_certificate import DEFAULT_NAMES, VALID_DAYS, write_certificate
from mahavishnu_site.env import UnexpectedValueError, parse_host
from orchestration.management.output import EscapingCommand


class Command(EscapingCommand):
    """The command `dev_certificate`."""

    help = "Writes a certificate for development to the folder `tls` of the var folder, and prints how to use it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "names",
            nargs="*",
            metavar="NAME",
            help="A host name or address, in addition to localhost, 127.0.0.1 and ::1.",
        )

    def handle(self, *args: Any, names: list[str], **options: Any) -> None:
        try:
            further = [_parse_name(name) for name in names]
        except UnexpectedValueError as error:
            raise CommandError(f"{error}.") from None
        every = list(dict.fromkeys([*DEFAULT_NAMES, *further]))
        files = write_certificate(settings.MAHAVISHNU_VAR_DIR / "tls", every)
        self.stdout.write(
            f"Wrote a certificate for {', '.join(every)}, valid for {VALID_DAYS} days.\n"
            "Serve with it:\n"
            f"  MAHAVISHNU_TLS_CERTIFICATE={files.certificate} MAHAVISHNU_TLS_KEY={files.key} make serve\n"
            "Trust it in every client. Its authority signs nothing else:\n"
            f"  Python, OpenSSL  SSL_CERT_FILE={files.authority}\n"
            f"  Node.js          NODE_EXTRA_CA_CERTS={files.authority}\n"
            f"  curl             curl --cacert {files.authority} https://localhost:{settings.MAHAVISHNU_PORT}/health\n"
            f"  browsers         import {files.authority} as an authority for websites"
        )


def _parse_name(name: str) -> str:
    host = name.removeprefix("*.")
    try:
        return name[: len(name) - len(host)] + parse_host(host)
    except UnexpectedValueError:
        raise UnexpectedValueError(
            f"{name!r}: expected a host name or an address, such as dev.example.org or 192.0.2.1"
        ) from None
