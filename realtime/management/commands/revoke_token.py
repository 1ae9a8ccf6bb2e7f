"""`manage.py revoke_token`: revoke the tokens of a user, or one token."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError
from django.utils.dateparse import parse_datetime
from django.utils.timezone import get_current_timezone, is_naive, localtime, make_aware

from orchestration.management.database_errors import readable_database_errors
from realtime.auth.revocation import InvalidRevocation, revoke_token_id, revoke_user
from realtime.management.help import CommandWithEpilog


def time_argument(text: str) -> datetime:
    """Return a time; without an offset, it is in the time zone of this process."""
    try:
        time = parse_datetime(text)
    except ValueError:
        time = None
    if time is None:
        raise ArgumentTypeError(f"{text!r}: expected a date and a time, such as 2026-01-31T12:00:00+00:00")
    return make_aware(time, get_current_timezone()) if is_naive(time) else time


class Command(CommandWithEpilog):
    """Revoke tokens."""

    help = (
        "Revokes the tokens of a user that were issued up to now, or one token by its id. Within two seconds, every "
        "server process closes the connections that use them, and accepts no new ones. To end the access of a user who "
        "logs in to the pages, deactivate the account."
    )
    epilog = (
        "examples:\n"
        "  manage.py revoke_token --user dashboard\n"
        "  manage.py revoke_token --user dashboard --issued-before 2026-01-31T12:00:00+00:00\n"
        "  manage.py revoke_token --token-id f3Kq0lY2nWc"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--user", metavar="U", help="Revoke the tokens with this `user_id`.")
        which.add_argument("--token-id", metavar="J", help="Revoke the token with this `jti`.")
        parser.add_argument(
            "--issued-before",
            type=time_argument,
            metavar="T",
            help="Revoke only tokens of the user that were issued before this time (default: now). A token without "
            "`iat` counts as issued before any time.",
        )

    def handle(
        self, *args: Any, user: str | None, token_id: str | None, issued_before: datetime | None, **options: Any
    ) -> None:
        if token_id is not None and issued_before is not None:
            raise CommandError("--issued-before needs --user: --token-id names one token")
        with readable_database_errors():
            try:
                row = revoke_token_id(token_id) if token_id is not None else revoke_user(user or "", issued_before)
            except InvalidRevocation as error:
                raise CommandError(str(error)) from None
        if token_id is not None:
            self.stdout.write(f"Revoked the token {token_id!r}")
        else:
            time = localtime(row.issued_before).isoformat(timespec="seconds")
            self.stdout.write(f"Revoked the tokens of user {user!r} issued before {time}")
