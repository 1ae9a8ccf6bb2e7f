"""Revoked tokens: those of a user that were issued before a time, and single ones by their id.

The table is the truth. A server process has it in memory and reads it again every second, whether the bus works or
not; a connection with a revoked token ends within two seconds. A process without connections asks the table directly.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from django.conf import settings
from django.db.models import Count, Q, Sum

from orchestration.db.clock import database_now
from realtime.auth.identity import Identity
from realtime.auth.security_log import logger as security_log
from realtime.database import in_revocation_thread
from realtime.models import Revocation
from realtime.protocol.token_claims import LEEWAY_SECONDS, MAX_TOKEN_ID_LENGTH, MAX_USER_ID_LENGTH

CLOCK_DIFFERENCE: Final = timedelta(seconds=2 * LEEWAY_SECONDS)
"""How much longer than its lifetime a token may be valid: it has the leeway at its beginning and at its end."""

_COLUMNS: Final = ("user_id", "token_id", "issued_before")


class InvalidRevocation(ValueError):
    """Raised for a revocation that would revoke nothing, or tokens of the future. The message says what is expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RevokedTokens:
    """What is in the table.

    Attributes:
        issued_before: By user, in seconds since the epoch: tokens that were issued before are revoked.
        token_ids: The ids of revoked tokens.
    """

    issued_before: Mapping[str, float] = field(default_factory=dict)
    token_ids: frozenset[str] = frozenset()

    def include(self, identity: Identity) -> bool:
        """Return whether the token of an identity is revoked. A token that does not say when it was issued is old."""
        if identity.token_id in self.token_ids:
            return True
        before = self.issued_before.get(identity.user_id)
        if before is None or identity.session_key is not None:
            return False
        return identity.issued_at is None or identity.issued_at < before


class _Table:
    """What this process has read of the table.

    Attributes:
        tokens: Its content.
        is_polled: Whether it is read again every second.
    """

    def __init__(self) -> None:
        self.tokens = RevokedTokens()
        self.is_polled = False
        self._lock = threading.Lock()
        self._read: tuple[int, int | None] | None = None

    def read(self) -> None:
        """Read the table again if it has changed. Rows are only added and deleted, never changed."""
        with self._lock:
            found = Revocation.objects.aggregate(rows=Count("pk"), sum=Sum("pk"))
            state = (found["rows"], found["sum"])
            if state != self._read:
                self.tokens = _tokens_of(Revocation.objects.values_list(*_COLUMNS))
                self._read = state


_table = _Table()


def has_revocations() -> bool:
    """Return whether anything is revoked."""
    return bool(_table.tokens.issued_before or _table.tokens.token_ids)


def revoked(identity: Identity) -> bool:
    """Return whether the token of an identity was revoked, by what this process has read last. It does not block."""
    return _table.tokens.include(identity)


def revoked_in_table(identity: Identity) -> bool:
    """Return whether the token of an identity was revoked, by the table. It blocks.

    Raises:
        django.db.Error: if the database is unavailable.
    """
    condition = Q(user_id=identity.user_id, token_id="")
    if identity.token_id:
        condition |= Q(token_id=identity.token_id)
    return _tokens_of(Revocation.objects.filter(condition).values_list(*_COLUMNS)).include(identity)


def _tokens_of(rows: Iterable[tuple[str, str, datetime]]) -> RevokedTokens:
    issued_before: dict[str, float] = {}
    token_ids: set[str] = set()
    for user_id, token_id, before in rows:
        if token_id:
            token_ids.add(token_id)
        else:
            issued_before[user_id] = max(issued_before.get(user_id, 0.0), before.timestamp())
    return RevokedTokens(issued_before=issued_before, token_ids=frozenset(token_ids))


async def read_revocations() -> None:
    """Read the table.

    Raises:
        django.db.Error: if the database is unavailable. What was read before remains.
    """
    await in_revocation_thread(_table.read)


async def is_revoked(identity: Identity) -> bool:
    """Return whether the token of an identity was revoked: by the table, unless this process reads it every second.

    Raises:
        django.db.Error: if the database is unavailable.
    """
    return revoked(identity) if _table.is_polled else await in_revocation_thread(revoked_in_table, identity)


def set_polled(is_polled: bool) -> None:
    """Record whether this process reads the table every second."""
    _table.is_polled = is_polled


def revoke_user(user_id: str, issued_before: datetime | None = None) -> Revocation:
    """Revoke the tokens of a user that were issued before a time; by default, all that exist now.

    The times of tokens have whole seconds: one that is issued in the second of that time counts as older.

    Raises:
        InvalidRevocation: if no such token can exist, or the time is in the future.
    """
    before, expires_at = _times(user_id, issued_before)
    row = Revocation.objects.create(user_id=user_id, issued_before=before, expires_at=expires_at)
    security_log.info("revoked: the tokens of user %r issued before %s", user_id, before.isoformat())
    return row


def _times(user_id: str, issued_before: datetime | None) -> tuple[datetime, datetime]:
    _check_text(user_id, "a user", MAX_USER_ID_LENGTH)
    now = database_now()
    before = now if issued_before is None else issued_before.astimezone(UTC)
    if before > now + CLOCK_DIFFERENCE:
        raise InvalidRevocation("expected a time that is not in the future")
    expires_at = before + _longest_lifetime()
    if expires_at <= now:
        raise InvalidRevocation(
            f"expected a time within the last {_longest_lifetime().total_seconds():.0f} s: older tokens have expired "
            "(MAHAVISHNU_MAX_TOKEN_SECONDS)"
        )
    return before, expires_at


def revoke_token_id(token_id: str) -> Revocation:
    """Revoke the token with this id, its claim `jti`.

    Raises:
        InvalidRevocation: if no token can have this id.
    """
    _check_text(token_id, "a token id", MAX_TOKEN_ID_LENGTH)
    now = database_now()
    row = Revocation.objects.create(token_id=token_id, issued_before=now, expires_at=now + _longest_lifetime())
    security_log.info("revoked: the token %r", token_id)
    return row


def check_revocation(*, user_id: str = "", token_id: str = "", issued_before: datetime | None = None) -> None:
    """Check what `revoke_token_id`, or else `revoke_user`, would be called with.

    Raises:
        InvalidRevocation: as they do.
    """
    if token_id:
        _check_text(token_id, "a token id", MAX_TOKEN_ID_LENGTH)
    else:
        _times(user_id, issued_before)


def prune_revocations() -> int:
    """Delete the rows that no token is old enough for, and return their number."""
    deleted, _ = Revocation.objects.filter(expires_at__lte=database_now()).delete()
    return deleted


def _longest_lifetime() -> timedelta:
    return timedelta(seconds=settings.MAHAVISHNU_MAX_TOKEN_SECONDS) + CLOCK_DIFFERENCE


def _check_text(text: str, what: str, max_length: int) -> None:
    if not 1 <= len(text) <= max_length or not text.isprintable():
        raise InvalidRevocation(f"expected {what} of 1 to {max_length} printable characters")
