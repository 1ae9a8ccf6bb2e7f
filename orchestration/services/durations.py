"""How long things took."""

from __future__ import annotations

from datetime import datetime, timedelta


def milliseconds_between(start: datetime, end: datetime) -> int:
    """Return the whole milliseconds from start to end; 0 if the clocks of two machines put them in the wrong order."""
    return max(0, (end - start) // timedelta(milliseconds=1))
