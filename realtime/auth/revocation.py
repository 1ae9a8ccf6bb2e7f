"""Whether the token of an identity was revoked."""

from __future__ import annotations

from realtime.auth.identity import Identity


def revoked(identity: Identity) -> bool:
    """Return whether the token of this identity was revoked."""
    return False
