"""Tokens for servers that require them."""

from __future__ import annotations

import time
from typing import Any

import jwt

SECRET = "a0Kf93hXz7QmLr51TgWbYdEuVc82NpSj"
"""The secret of the servers of tests."""

REQUIRES_AUTH = {"MAHAVISHNU_REQUIRE_AUTH": "1", "MAHAVISHNU_JWT_SECRET": SECRET}
"""The environment of a server that requires a token."""


def token(*permissions: str, user_id: str = "ada", seconds: float = 600, secret: str = SECRET, **claims: Any) -> str:
    """Return a token that is valid for about so many seconds, with further or other claims."""
    now = int(time.time())
    given = {"user_id": user_id, "permissions": list(permissions), "iat": now, "exp": int(time.time() + seconds)}
    kept = {name: value for name, value in {**given, **claims}.items() if value is not None}
    return jwt.encode(kept, secret, algorithm="HS256")
