"""Every signal is recorded for the test, and reaches no other receiver."""

from __future__ import annotations

import pytest

from tests.services.conftest import recorded

__all__ = ["recorded"]

pytest.register_assert_rewrite("tests.models.counter_audit")
