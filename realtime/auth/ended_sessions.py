"""Logins that have ended while a connection was open: by a logout, a new password, or an account that was closed.

It blocks: call it in a database thread.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from realtime.auth.identity import ADMIN_GRANT, Identity
from realtime.auth.sessions import session_store_class
from realtime.database import MAX_KEYS_PER_QUERY


@dataclass(frozen=True, slots=True)
class _Login:
    data: str
    user_id: Any
    password_hash: str


class SessionCheck:
    """Finds ended sessions with two queries for all of them, or for each 500. It decodes a session once."""

    def __init__(self) -> None:
        self._logins: dict[str, _Login] = {}

    def ended(self, identities: Iterable[Identity]) -> set[str]:
        """Return the keys of the sessions of these identities that have ended.

        Sessions that are not in the database are not looked at.
        """
        by_key: dict[str, list[Identity]] = {}
        for identity in identities:
            if identity.session_key is not None:
                by_key.setdefault(identity.session_key, []).append(identity)
        store = session_store_class()
        if not by_key or not hasattr(store, "get_model_class"):
            self._logins.clear()
            return set()
        self._read_logins(store, by_key)
        users = _users({login.user_id for login in self._logins.values()})
        return {
            key
            for key, of_session in by_key.items()
            if (login := self._logins.get(key)) is None
            or not all(_is_current(identity, login, users.get(login.user_id)) for identity in of_session)
        }

    def _read_logins(self, store: Any, keys: Collection[str]) -> None:
        found: dict[str, _Login] = {}
        now = timezone.now()
        for some in _parts(sorted(keys)):
            rows = store.get_model_class().objects.filter(session_key__in=some, expire_date__gt=now)
            for key, data in rows.values_list("session_key", "session_data"):
                known = self._logins.get(key)
                found[key] = known if known is not None and known.data == data else _decoded(store, data)
        self._logins = found


def _decoded(store: Any, data: str) -> _Login:
    session: dict[str, Any] = store().decode(data)
    user_id = session.get(SESSION_KEY)
    if user_id is not None:
        user_id = get_user_model()._meta.pk.to_python(user_id)
    return _Login(data=data, user_id=user_id, password_hash=session.get(HASH_SESSION_KEY, ""))


def _users(ids: Collection[Any]) -> dict[Any, Any]:
    known = sorted(id for id in ids if id is not None)
    users: dict[Any, Any] = {}
    for some in _parts(known):
        users |= get_user_model()._default_manager.in_bulk(some)
    return users


def _is_current(identity: Identity, login: _Login, user: Any) -> bool:
    """Return whether a login still permits what it did when the connection was opened."""
    if user is None or not user.is_active or user.get_username() != identity.user_id:
        return False
    if ADMIN_GRANT in identity.permissions and not user.is_superuser:
        return False
    hashes = (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    return any(constant_time_compare(login.password_hash, each) for each in hashes)


def _parts(keys: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(keys), MAX_KEYS_PER_QUERY):
        yield keys[start : start + MAX_KEYS_PER_QUERY]
