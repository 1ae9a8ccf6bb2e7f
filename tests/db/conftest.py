"""Record every signal for the test, and disconnect all other receivers."""

from __future__ import annotations

from tests.services.conftest import recorded

__all__ = ["recorded"]
