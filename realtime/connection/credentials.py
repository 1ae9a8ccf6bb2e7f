"""What a client presents in its handshake: tokens, a login, and tokens where they must not be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from django.conf import settings
from django.http import parse_cookie

from realtime.connection.origin import is_own_page

SUBPROTOCOL: Final = "mahavishnu.v1"
"""The subprotocol of this protocol. A client may offer it, alone or beside its token, or none."""

_TOKEN_PREFIX: Final = "bearer."
"""What the subprotocol begins with that is a token. Pages set no headers of a WebSocket, but they can offer this."""

_QUERY_NAMES: Final = (
    *("token", "access_token", "accesstoken", "auth_token", "authtoken", "id_token"),
    *("bearer", "bearer_token", "jwt", "auth", "authorization"),
)
_TOKEN_SHAPE = re.compile(r"(?:Bearer )?eyJ[\w-]+\.[\w-]+\.[\w-]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a handshake presents.

    Attributes:
        tokens: The tokens in the header `Authorization` and in the subprotocols, without repetitions.
        session_key: The Django session of one of the server's own pages, or of an allowed origin.
        subprotocol: The subprotocol to answer, if the client offers ours.
    """

    tokens: tuple[str, ...] = field(repr=False)
    session_key: str | None = field(repr=False)
    subprotocol: str | None


def credentials_of(scope: Mapping[str, Any]) -> Credentials:
    """Return what the handshake with this ASGI scope presents. Nothing is checked yet."""
    offered: list[str] = scope.get("subprotocols") or []
    return Credentials(
        tokens=tuple(dict.fromkeys((*_header_tokens(scope), *_offered_tokens(offered)))),
        session_key=_session_key(scope),
        subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None,
    )


def bearer_token(header: str) -> str | None:
    """Return the token in a header `Authorization`; None for another scheme, which is the matter of a proxy."""
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def has_token_in_query(query: str) -> bool:
    """Return whether the query of a URL has a token. URLs end up in logs and histories."""
    return any(
        name.lower() in _QUERY_NAMES or _TOKEN_SHAPE.fullmatch(value) is not None
        for name, value in parse_qsl(query, keep_blank_values=True)
    )


def _headers(scope: Mapping[str, Any], wanted: bytes) -> Iterator[str]:
    return (value.decode("latin-1") for name, value in scope["headers"] if name == wanted)


def _header_tokens(scope: Mapping[str, Any]) -> Iterator[str]:
    tokens = map(bearer_token, _headers(scope, b"authorization"))
    return (token for token in tokens if token is not None)


def _offered_tokens(offered: list[str]) -> Iterator[str]:
    return (name.removeprefix(_TOKEN_PREFIX) for name in offered if name.startswith(_TOKEN_PREFIX))


def _session_key(scope: Mapping[str, Any]) -> str | None:
    """Return the session that counts: browsers send cookies with the requests of every page, ours or not."""
    cookies = "; ".join(_headers(scope, b"cookie"))
    if settings.SESSION_COOKIE_NAME not in cookies or not is_own_page(scope):
        return None
    return parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME) or None
