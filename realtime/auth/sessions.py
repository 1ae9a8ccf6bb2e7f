"""The identity of a user who has logged in to the pages. It blocks: call it in a database thread."""

from __future__ import annotations

from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest

from realtime.auth.identity import ADMIN_GRANT, Identity

if TYPE_CHECKING:
    from django.contrib.auth.models import User

GRANT_OF_PERMISSION: Final = {
    "orchestration.view_workflow": "workflow:read",
    "orchestration.view_pool": "pool:read",
    "orchestration.view_worker": "worker:read",
    "realtime.view_event": "global:read",
    "orchestration.change_workflow": "operate",
}
"""What a permission of a Django user grants here."""


def session_store_class() -> Any:
    """Return the class of Django's sessions in the settings."""
    return import_module(settings.SESSION_ENGINE).SessionStore


def identity_of_session(session_key: str) -> Identity | None:
    """Return who a session belongs to; None if it has ended, or its user may no longer log in."""
    store = session_store_class()(session_key)
    request = HttpRequest()
    request.session = store
    user: Any = get_user(request)
    if not user.is_authenticated or not user.is_active:
        return None
    return identity_of_user(user, session_key=session_key, expires_at=_expiry_of(store))


def _expiry_of(store: Any) -> float:
    """Return when a session ends. What a store computes is later with each call, so the stored time is read."""
    model = getattr(store, "model", None)
    stored: datetime | None = None
    if model is not None:
        stored = model.objects.filter(pk=store.session_key).values_list("expire_date", flat=True).first()
    return (stored or store.get_expiry_date()).timestamp()


def identity_of_user(user: User, *, session_key: str | None = None, expires_at: float | None = None) -> Identity:
    """Return the identity of an active Django user."""
    if user.is_superuser:
        permissions: tuple[str, ...] = (ADMIN_GRANT,)
    else:
        permissions = tuple(grant for name, grant in GRANT_OF_PERMISSION.items() if user.has_perm(name))
    return Identity(
        user_id=user.get_username(), permissions=permissions, session_key=session_key, expires_at=expires_at
    )
