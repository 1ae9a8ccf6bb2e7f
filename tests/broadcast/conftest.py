"""The sandbox of a relay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from tests.harness.valkey import Valkey

if TYPE_CHECKING:
    from tests.broadcast.relay_sandbox import RelaySandbox


@pytest.fixture
async def sandbox(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RelaySandbox]:
    """Run a relay that the test controls step by step."""
    # Imported here, because models can be only once Django is set up.
    from tests.broadcast.relay_sandbox import running_sandbox

    async with running_sandbox(monkeypatch) as sandbox:
        yield sandbox
