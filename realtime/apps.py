"""The Django app that publishes changes of `orchestration` to subscribed clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from orchestration.apps import set_default_settings
from realtime.auth.policy import load_policy
from realtime.exposure import is_exposed
from realtime.limits import LOOPBACK_NETWORKS, Limits
from realtime.protocol.token_claims import DEFAULT_MAX_TOKEN_SECONDS
from realtime.web_origin import InvalidOrigin, host_of_origin, parse_origin

# The host and the port are where the commands expect the running server.
DEFAULT_SETTINGS: Final[Mapping[str, Any]] = {
    "MAHAVISHNU_LIMITS": Limits(),
    "MAHAVISHNU_HOST": "127.0.0.1",
    "MAHAVISHNU_PORT": 8000,
    "MAHAVISHNU_PATH_PREFIX": "",
    "MAHAVISHNU_PROXY_STRIPS_PREFIX": False,
    "MAHAVISHNU_PROCESSES": 1,
    "MAHAVISHNU_SERVES": "both",
    "MAHAVISHNU_PAGES_PORT": 0,
    "MAHAVISHNU_ALLOWED_ORIGINS": (),
    "MAHAVISHNU_TRUSTED_PROXIES": LOOPBACK_NETWORKS,
    "MAHAVISHNU_COUNTS_LOOPBACK": False,
    "MAHAVISHNU_DIRECT_FRAMES": True,
    "MAHAVISHNU_REDIS_URLS": (),
    "MAHAVISHNU_REQUIRE_AUTH": False,
    "MAHAVISHNU_OPEN_TO_EVERYONE": False,
    "MAHAVISHNU_POLICY": "",
    "MAHAVISHNU_JWT_SECRET": "",
    "MAHAVISHNU_JWT_SECRET_PREVIOUS": "",
    "MAHAVISHNU_JWT_JWKS": "",
    "MAHAVISHNU_JWT_AUDIENCE": "",
    "MAHAVISHNU_JWT_ISSUER": "",
    "MAHAVISHNU_MAX_TOKEN_SECONDS": DEFAULT_MAX_TOKEN_SECONDS,
    "MAHAVISHNU_TLS_CERTIFICATE": None,
    "MAHAVISHNU_TLS_KEY": None,
}


def _normalize_origin(text: str) -> str:
    try:
        return str(parse_origin(text, allow_wildcard=True))
    except InvalidOrigin as error:
        raise ImproperlyConfigured(
            f"MAHAVISHNU_ALLOWED_ORIGINS: {error}: expected such as https://example.org or https://*.example.org"
        ) from None


def _is_exposed() -> bool:
    origins = map(host_of_origin, settings.MAHAVISHNU_ALLOWED_ORIGINS)
    return is_exposed([settings.MAHAVISHNU_HOST, *settings.ALLOWED_HOSTS, *origins])


class RealtimeConfig(AppConfig):
    """Connects the signals of `orchestration` when Django is ready."""

    name = "realtime"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        set_default_settings(DEFAULT_SETTINGS)
        settings.MAHAVISHNU_ALLOWED_ORIGINS = tuple(map(_normalize_origin, settings.MAHAVISHNU_ALLOWED_ORIGINS))
        set_default_settings({"MAHAVISHNU_EXPOSED": _is_exposed()})
        if settings.MAHAVISHNU_POLICY:
            load_policy(settings.MAHAVISHNU_POLICY)
        from realtime.events import receivers

        receivers.connect()
