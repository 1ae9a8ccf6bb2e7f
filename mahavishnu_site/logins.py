"""Logins that fail are counted, logged, and refused before a password is hashed: see `AXES_…` in the settings.

django-axes counts them in the database, so every process knows them.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.signals import user_login_failed
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse

from orchestration.log_throttle import LogThrottle
from realtime.connection.client_address import ClientAddress, parse_address

logger = logging.getLogger(__name__)

MAX_FAILURES_PER_ADDRESS: Final = 50
"""Failed logins of one address, with any user names, before it is refused. Each costs 0.25 s of CPU."""

_MAX_NAME_CHARACTERS: Final = 150
"""As Django's user names."""

_failed = LogThrottle(logger)
_refused = LogThrottle(logger)


class LoginAttempts(AxesDatabaseHandler):
    """Refuses an address with many failures too: otherwise, each new user name would cost a hash."""

    def is_locked(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> bool:
        return super().is_locked(request, credentials) or self._is_address_locked(request)

    def _is_address_locked(self, request: Any) -> bool:
        since = request.axes_attempt_time - settings.AXES_COOLOFF_TIME
        attempts = AccessAttempt.objects.filter(ip_address=request.axes_ip_address, attempt_time__gte=since)
        failures = attempts.aggregate(total=Sum("failures_since_start"))["total"] or 0
        return bool(failures >= MAX_FAILURES_PER_ADDRESS)


def login_address(request: HttpRequest) -> str | None:
    """Return the address that failures count for; None if there is none, as on a Unix socket.

    It is the peer's address, which daphne takes from the proxy's header if it was started with `--proxy-headers`. An
    IPv6 address stands for its network.
    """
    owner = ClientAddress(parse_address(request.META.get("REMOTE_ADDR", ""))).owner
    return None if owner is None else owner.partition("/")[0]


def refuse(request: HttpRequest, *_: object) -> HttpResponse:
    """Answer a login that is refused: 429, in words. The answer is the same whether the user exists or not."""
    seconds = int(settings.AXES_COOLOFF_TIME.total_seconds())
    return HttpResponse(
        f"Too many failed logins. Try again in {seconds // 60} minutes.\n",
        content_type="text/plain; charset=utf-8",
        status=429,
        headers={"Retry-After": str(seconds)},
    )


def log_failures() -> None:
    """Log every login that fails or is refused, but at most one line of each kind a minute."""
    user_login_failed.connect(_log_failure, dispatch_uid="mahavishnu_site.logins")


def _log_failure(credentials: dict[str, Any], request: HttpRequest | None = None, **_: object) -> None:
    # A name may contain line breaks and escape sequences: `repr` escapes them.
    name = str(credentials.get("username"))[:_MAX_NAME_CHARACTERS]
    address = None if request is None else login_address(request)
    if getattr(request, "axes_locked_out", False):
        _refused.log("Refused a login as %r from %s: too many failed logins", name, address)
    else:
        _failed.log("Failed login as %r from %s", name, address)
