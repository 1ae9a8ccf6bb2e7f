"""What one part of the code has logged."""

from __future__ import annotations

import pytest


def logged_by(name: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages of a logger and those below it. Threads of the process, such as the publisher's, log too."""
    return [
        record.getMessage() for record in caplog.records if record.name == name or record.name.startswith(f"{name}.")
    ]
