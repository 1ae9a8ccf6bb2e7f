"""The keys that verify tokens, as the settings name them: secrets for HS256, or a JWKS."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from realtime.auth.jwks import JwksSource
from realtime.auth.jwks_download import UnavailableJwks
from realtime.auth.verification_key import UnusableKey, VerificationKey, key_of_secret
from realtime.protocol.token_claims import DEFAULT_MAX_TOKEN_SECONDS


@dataclass(frozen=True, kw_only=True)
class Keys:
    """All that verifies tokens. It never changes: a fetched JWKS makes a new one.

    Attributes:
        keys: The keys. Secrets have no id.
        audience: What `aud` must contain; empty: a token must not have an `aud`.
        issuer: What `iss` must be; empty: anything.
        max_token_seconds: The longest lifetime of a token.
        refresh: Reads the JWKS again, at most once in 30 s, because a token names a key that is not in it; it blocks.
            None for secrets.
    """

    keys: tuple[VerificationKey, ...] = field(repr=False)
    audience: str = ""
    issuer: str = ""
    max_token_seconds: int = DEFAULT_MAX_TOKEN_SECONDS
    refresh: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    def candidates(self, key_id: str | None) -> tuple[VerificationKey, ...]:
        """Return the keys that may have signed a token with this `kid`.

        Secrets have no ids, so each of them is tried. A token without a `kid` is for the only key of a set.
        """
        if any(not key.is_asymmetric for key in self.keys):
            return self.keys
        if key_id is None:
            return self.keys if len(self.keys) == 1 else ()
        return tuple(key for key in self.keys if key.key_id == key_id)


def keys_of_secrets(*secrets: str, audience: str = "", issuer: str = "", max_token_seconds: int) -> Keys:
    """Return the keys of these secrets. The first one signs.

    Raises:
        UnusableKey: if one of them can be guessed.
    """
    keys = tuple(key_of_secret(secret) for secret in secrets if secret)
    return Keys(keys=keys, audience=audience, issuer=issuer, max_token_seconds=max_token_seconds)


_Configuration = tuple[str, str, str, str, str, int]


class _Configured:
    """The keys of this process, for as long as the settings stay the same."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.configuration: _Configuration | None = None
        self.keys: Keys | None = None
        self.source: JwksSource | None = None


_configured = _Configured()


def configured_keys() -> Keys | None:
    """Return the keys of the settings; None without any. The first call may block, for a download of a JWKS.

    Raises:
        ImproperlyConfigured: at the first call, if they are unusable.
    """
    configuration = (
        settings.MAHAVISHNU_JWT_SECRET,
        settings.MAHAVISHNU_JWT_SECRET_PREVIOUS,
        settings.MAHAVISHNU_JWT_JWKS,
        settings.MAHAVISHNU_JWT_AUDIENCE,
        settings.MAHAVISHNU_JWT_ISSUER,
        settings.MAHAVISHNU_MAX_TOKEN_SECONDS,
    )
    if _configured.configuration != configuration:
        with _configured.lock:
            if _configured.configuration != configuration:
                _configure(configuration)
    return _configured.keys


def require_usable_keys() -> None:
    """Exit if the keys of the settings are unusable. A server process calls it before it listens."""
    try:
        configured_keys()
    except ImproperlyConfigured as error:
        sys.exit(str(error))


def _configure(configuration: _Configuration) -> None:
    secret, previous, jwks, audience, issuer, max_token_seconds = configuration
    if _configured.source is not None:
        _configured.source.close()
    _configured.configuration = _configured.source = _configured.keys = None
    if jwks and (secret or previous):
        raise ImproperlyConfigured("MAHAVISHNU_JWT_JWKS: expected no value while MAHAVISHNU_JWT_SECRET is set")
    if secret:
        try:
            _configured.keys = keys_of_secrets(
                secret, previous, audience=audience, issuer=issuer, max_token_seconds=max_token_seconds
            )
        except UnusableKey as error:
            raise ImproperlyConfigured(f"MAHAVISHNU_JWT_SECRET: expected a long, random text ({error})") from None
    elif jwks:

        def use(keys: tuple[VerificationKey, ...]) -> None:
            if _configured.source is source:
                _configured.keys = Keys(
                    keys=keys,
                    audience=audience,
                    issuer=issuer,
                    max_token_seconds=max_token_seconds,
                    refresh=source.refresh,
                )

        source = JwksSource(jwks, cache_dir=getattr(settings, "MAHAVISHNU_VAR_DIR", None), on_change=use)
        _configured.source = source
        try:
            source.start()
        except UnavailableJwks as error:
            raise ImproperlyConfigured(f"MAHAVISHNU_JWT_JWKS: {error}") from None
    _configured.configuration = configuration
