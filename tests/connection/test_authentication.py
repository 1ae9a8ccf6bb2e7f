"""Who a client of the WebSocket is."""

from __future__ import annotations

import ipaddress

import pytest
from pytest_django import Settings

from realtime.auth.identity import EVERYONE, ON_THIS_MACHINE, Identity
from realtime.connection.authentication import identity_without_credentials
from realtime.connection.client_address import ClientAddress


@pytest.mark.parametrize(
    ("address", "is_forwarded", "switched_on", "expected"),
    [
        ("127.0.0.1", False, None, ON_THIS_MACHINE),
        ("::1", False, None, ON_THIS_MACHINE),
        ("127.0.0.1", True, None, EVERYONE),
        ("192.0.2.1", False, None, EVERYONE),
        ("127.0.0.1", False, "MAHAVISHNU_EXPOSED", EVERYONE),
        ("127.0.0.1", False, "MAHAVISHNU_OPEN_TO_EVERYONE", EVERYONE),
    ],
)
def test_identity_without_credentials_is_admin_only_from_this_machine(
    settings: Settings, address: str, is_forwarded: bool, switched_on: str | None, expected: Identity
) -> None:
    if switched_on is not None:
        setattr(settings, switched_on, True)
    client = ClientAddress(ipaddress.ip_address(address), is_forwarded=is_forwarded)
    assert identity_without_credentials(client) is expected
