"""What is announced is heard by the test, and by nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.orchestration.hearing import Heard

pytest.register_assert_rewrite("tests.orchestration.recount")


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Heard]:
    """All that is announced; `heard.clear()` forgets what the preparation of a test announced."""
    # Imported here, because models can be only once Django is set up.
    from tests.orchestration.hearing import hear_everything

    return hear_everything(monkeypatch)
