"""Record every signal for the test, and disconnect all other receivers."""

from __future__ import annotations

import pytest

from tests.services.conftest import recorded

__all__ = ["recorded"]

pytest.register_assert_rewrite("tests.models.counter_audit")
