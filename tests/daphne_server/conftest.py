"""Fixtures for the tests of daphne."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.daphne_server.in_process import InProcessConnection


@pytest.fixture
async def connection() -> AsyncIterator[InProcessConnection]:
    """Open a connection to a server in the test's own process."""
    # Imported here, because Django is not set up before.
    from tests.daphne_server.in_process import open_in_process

    async with open_in_process() as connection:
        yield connection
