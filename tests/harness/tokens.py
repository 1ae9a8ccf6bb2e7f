"""Tokens for servers that require them."""

from __future__ import annotations

import time
from typing import Any

from tests.auth.token_signing import SECRET_VARIABLES, secret_token

REQUIRES_AUTH = {"MAHAVISHNU_REQUIRE_AUTH": "1", **SECRET_VARIABLES}
"""The environment of a server that requires a token."""


def token(*permissions: str, user_id: str = "ada", seconds: float = 600, **claims: Any) -> str:
    """Return a token that is valid for about so many seconds, with further or other claims; None removes one."""
    given: dict[str, Any] = {
        "permissions": list(permissions),
        "user_id": user_id,
        "exp": int(time.time() + seconds),
        **claims,
    }
    changed: dict[str, Any] = {name: ... if value is None else value for name, value in given.items()}
    return secret_token(**changed)
