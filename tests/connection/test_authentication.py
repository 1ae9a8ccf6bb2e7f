"""Who a client of the WebSocket is."""

from __future__ import annotations

import ipaddress

import pytest

from realtime.auth.identity import EVERYONE, ON_THIS_MACHINE, Identity
from realtime.connection.authentication import identity_without_credentials
from realtime.connection.client_address import ClientAddress


@pytest.mark.parametrize(
    ("address", "is_forwarded", "expected"),
    [
        ("127.0.0.1", False, ON_THIS_MACHINE),
        ("::1", False, ON_THIS_MACHINE),
        ("127.0.0.1", True, EVERYONE),
        ("192.0.2.1", False, EVERYONE),
    ],
)
def test_identity_without_credentials_is_admin_only_from_this_machine(
    address: str, is_forwarded: bool, expected: Identity
) -> None:
    client = ClientAddress(ipaddress.ip_address(address), is_forwarded=is_forwarded)
    assert identity_without_credentials(client) is expected
