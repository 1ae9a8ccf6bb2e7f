"""The pytest plugin: `pytest_plugins = ["mahavishnu_client.testing.plugin"]`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mahavishnu_client.testing.server import FakeServer


@pytest.fixture
def fake_server() -> Iterator[FakeServer]:
    """Start a fake server for one test."""
    with FakeServer() as server:
        yield server
