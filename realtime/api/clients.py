"""Who sends a request to the API, and what it may take: requests a second, and bytes of reads.

These limits are those of one WebSocket connection. A client of the API has no connection, so they apply to its user or,
if it has none, to its address.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field

from django.conf import settings
from django.http import HttpRequest

from realtime.api.problems import Problem
from realtime.auth.identity import Identity
from realtime.auth.policy import Action, ResourceType, may, no_permission
from realtime.auth.security_log import log_security_event
from realtime.connection.client_address import ClientAddress, client_address
from realtime.connection.rate_limit import TokenBucket
from realtime.connection.refusal_counter import RefusalCounter
from realtime.connection.replay_budget import ReplayBudget
from realtime.limits import Limits
from realtime.protocol.problems import ProblemCode

MAX_TRACKED_CLIENTS = 10_000
"""Clients whose limits are counted. Above it, the one without a request for longest is forgotten."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """What one client may still take."""

    rate: TokenBucket
    budget: ReplayBudget
    forbidden: RefusalCounter


class ClientQuotas:
    """The quotas of the clients of one process."""

    def __init__(self) -> None:
        self._quotas: OrderedDict[tuple[str, str], Quotas] = OrderedDict()

    def of(self, identity: Identity, address: ClientAddress) -> Quotas:
        """Return the quotas of a user or, without one, of an address."""
        key = ("user", identity.user_id) if identity.user_id else ("address", address.owner or "")
        quotas = self._quotas.get(key)
        if quotas is None:
            limits: Limits = settings.MAHAVISHNU_LIMITS
            rate = TokenBucket(limits.max_messages_per_second, limits.max_message_burst, time.monotonic())
            forbidden = RefusalCounter(limits.max_forbidden_per_minute)
            quotas = self._quotas[key] = Quotas(rate, ReplayBudget(limits), forbidden)
            if len(self._quotas) > MAX_TRACKED_CLIENTS:
                self._quotas.popitem(last=False)
        self._quotas.move_to_end(key)
        return quotas


client_quotas = ClientQuotas()


def address_of(request: HttpRequest) -> ClientAddress:
    """Return the address of the client of a request."""
    forwarded_for = request.META.get("HTTP_X_FORWARDED_FOR")
    return client_address(request.META.get("REMOTE_ADDR"), [] if forwarded_for is None else [forwarded_for])


def identity_of(request: HttpRequest) -> Identity:
    """Return who sends a request, once `Bearer` has checked it."""
    identity: Identity = request.auth  # type: ignore[attr-defined]
    return identity


def log_source(request: HttpRequest) -> str:
    """Return where a request is from, for the log."""
    return f"the API from {address_of(request).owner or 'a Unix socket'}"


def quotas_of(request: HttpRequest) -> Quotas:
    """Return the quotas of the client of a request."""
    return client_quotas.of(identity_of(request), address_of(request))


@dataclass(slots=True)
class Permissions:
    """What the client of one request may do. Each refusal is logged once, and the request counts once as forbidden.

    Attributes:
        identity: Who the client is.
        source: Where it is, for the log.
        forbidden: The forbidden requests of the client.
    """

    identity: Identity
    source: str
    forbidden: RefusalCounter
    _refusals: set[str] = field(default_factory=set)

    def allow(self, action: Action, resource_type: ResourceType, resource_id: str | None = None) -> bool:
        """Return whether the client may do something; log and count a refusal."""
        identity = self.identity
        if may(identity, action, resource_type, resource_id):
            return True
        refusal = no_permission(action, resource_type, resource_id)
        if refusal in self._refusals:
            return False  # A transaction that is repeated asks again.
        log_security_event(
            "forbidden", refusal, user_id=identity.user_id, token_id=identity.token_id, source=self.source
        )
        if not self._refusals:
            self.forbidden.add(now=time.monotonic())
        self._refusals.add(refusal)
        return False

    def check(self, action: Action, resource_type: ResourceType, resource_id: str | None = None) -> None:
        """Check that the client may do something; log and count a refusal.

        Raises:
            Problem: with `FORBIDDEN`.
        """
        if not self.allow(action, resource_type, resource_id):
            raise Problem(ProblemCode.FORBIDDEN, no_permission(action, resource_type, resource_id))


def permissions_of(request: HttpRequest) -> Permissions:
    """Return what the client of a request may do.

    Raises:
        Problem: with `RATE_LIMIT_EXCEEDED`, after too many forbidden requests.
    """
    forbidden = quotas_of(request).forbidden
    if wait_seconds := forbidden.wait_seconds(now=time.monotonic()):
        limits: Limits = settings.MAHAVISHNU_LIMITS
        raise Problem(
            ProblemCode.RATE_LIMIT_EXCEEDED,
            f"Too many forbidden requests ({limits.max_forbidden_per_minute} in a minute)",
            retry_after_seconds=wait_seconds,
        )
    return Permissions(identity_of(request), log_source(request), forbidden)


def admit(
    request: HttpRequest, action: Action, resource_type: ResourceType, resource_id: str | None = None
) -> Permissions:
    """Check that the client may do something, and not too often. Return what else it may do.

    Nothing has been read before. So the refusal is the same, and as quick, for what exists and what does not.

    Raises:
        Problem: with `FORBIDDEN` or `RATE_LIMIT_EXCEEDED`.
    """
    permissions = permissions_of(request)
    try:
        permissions.check(action, resource_type, resource_id)
    except Problem:
        quotas_of(request).rate.take(time.monotonic())
        raise
    check_rate(request)
    return permissions


def check_rate(request: HttpRequest) -> None:
    """Take one request from what the client may send.

    Raises:
        Problem: with `RATE_LIMIT_EXCEEDED`.
    """
    rate = quotas_of(request).rate
    if not rate.take(time.monotonic()):
        limits: Limits = settings.MAHAVISHNU_LIMITS
        raise Problem(
            ProblemCode.RATE_LIMIT_EXCEEDED,
            f"Rate limit exceeded ({limits.max_messages_per_second:.15g} requests/s, burst {limits.max_message_burst})",
            retry_after_seconds=rate.seconds_until(1),
        )
