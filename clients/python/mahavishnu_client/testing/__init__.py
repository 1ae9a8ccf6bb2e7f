"""A fake server for your own tests, and the pytest fixture `fake_server`.

Add `pytest_plugins = ["mahavishnu_client.testing.plugin"]` to your `conftest.py` for the fixture.
"""

from __future__ import annotations

from mahavishnu_client.testing.server import FakeServer

__all__ = ["FakeServer"]
