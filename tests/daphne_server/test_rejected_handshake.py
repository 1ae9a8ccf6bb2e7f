"""The end of a rejected handshake, which daphne may have forgotten by then."""

from __future__ import annotations

from tests.daphne_server.in_process import InProcessConnection


async def test_rejected_handshake_may_end_after_daphne_has_removed_it(connection: InProcessConnection) -> None:
    protocol = connection.protocol
    # Once a second, daphne removes what it has answered.
    removed = protocol.server.connections.pop(protocol)
    protocol.onClose(True, 1000, "")
    protocol.server.connections[protocol] = removed
