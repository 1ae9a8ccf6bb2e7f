"""Who the client of a connection is, by the credentials it presents."""

from __future__ import annotations

from realtime.auth.identity import EVERYONE, ON_THIS_MACHINE, Identity
from realtime.connection.client_address import ClientAddress


def identity_without_credentials(address: ClientAddress) -> Identity:
    """Return who a client without credentials is, on a server that requires none."""
    return ON_THIS_MACHINE if address.is_direct_loopback else EVERYONE
