"""Fixtures for the tests of connections."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def room(unique: Callable[[str], str]) -> str:
    """Return the room of a workflow that no other test uses."""
    return f"workflow:{unique('wf')}"
