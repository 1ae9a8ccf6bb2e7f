"""Every signal is recorded for the test, and reaches no other receiver."""

from __future__ import annotations

from tests.services.conftest import recorded

__all__ = ["recorded"]
