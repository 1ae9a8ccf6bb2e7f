"""`manage.py create_token`: print a token signed with MAHAVISHNU_JWT_SECRET."""

from __future__ import annotations

import secrets
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from realtime.auth.identity import parse_grants
from realtime.auth.keys import configured_keys
from realtime.auth.tokens import MAX_TOKEN_BYTES, InvalidToken, verify
from realtime.management.arguments import whole_number
from realtime.management.help import CommandWithEpilog
from realtime.protocol.token_claims import encode_claims

DEFAULT_SECONDS = 3600
TOKEN_ID_BYTES = 12


class Command(CommandWithEpilog):
    """Print a token."""

    help = (
        "Prints a token for a client, signed with MAHAVISHNU_JWT_SECRET. Its bearer has its permissions until it "
        "expires or is revoked, so do not log it or send it unencrypted."
    )
    epilog = (
        "examples:\n"
        "  manage.py create_token --user dashboard --permission workflow:read --permission pool:read\n"
        "  manage.py create_token --user nightly --permission 'operate:nightly_*' --expires-in 86400"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", required=True, metavar="U", help="The user of the token, 1 to 128 characters.")
        parser.add_argument(
            "--permission",
            action="append",
            default=[],
            metavar="P",
            dest="permissions",
            help="A permission, such as workflow:read or admin. May be repeated.",
        )
        parser.add_argument(
            "--expires-in",
            type=whole_number(minimum=1, maximum=settings.MAHAVISHNU_MAX_TOKEN_SECONDS),
            default=min(DEFAULT_SECONDS, settings.MAHAVISHNU_MAX_TOKEN_SECONDS),
            metavar="SECONDS",
            help="The lifetime, up to MAHAVISHNU_MAX_TOKEN_SECONDS (default: %(default)s).",
        )
        parser.add_argument(
            "--token-id", metavar="J", help="The id with which the token can be revoked (default: a random one)."
        )

    def handle(self, *args: Any, user: str, permissions: list[str], token_id: str | None, **options: Any) -> None:
        for permission in permissions:
            if not parse_grants([permission]):
                raise CommandError(
                    f"--permission {permission!r} grants nothing: expected a permission such as admin, global:read, "
                    "workflow:read:ID, pool:read, operate:NAME* or event:write"
                )
        now = int(time.time())
        claims: dict[str, Any] = {
            "user_id": user,
            "permissions": permissions,
            "iat": now,
            "exp": now + options["expires_in"],
            "jti": secrets.token_urlsafe(TOKEN_ID_BYTES) if token_id is None else token_id,
        }
        if settings.MAHAVISHNU_JWT_AUDIENCE:
            claims["aud"] = settings.MAHAVISHNU_JWT_AUDIENCE
        if settings.MAHAVISHNU_JWT_ISSUER:
            claims["iss"] = settings.MAHAVISHNU_JWT_ISSUER
        self.stdout.write(_signed(claims, now=now))


def _signed(claims: dict[str, Any], *, now: int) -> str:
    if settings.MAHAVISHNU_JWT_JWKS:
        raise CommandError("MAHAVISHNU_JWT_JWKS is set, so only your issuer can sign tokens that the server accepts")
    try:
        keys = configured_keys()
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from None
    if keys is None:
        raise CommandError("MAHAVISHNU_JWT_SECRET is not set: set it to the value that the server uses")
    token = keys.keys[0].sign(encode_claims(claims))
    try:
        verify(token, keys=keys, now=now)
    except InvalidToken as error:
        raise CommandError(
            f"No server would accept this token: {error.reason}. A token has at most {MAX_TOKEN_BYTES} bytes, 100 "
            "permissions, and a user and an id of 1 to 128 printable characters each"
        ) from None
    return token
