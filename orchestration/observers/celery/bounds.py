"""The bounds of the memory of an observer, and how long it waits for what may still arrive."""

from __future__ import annotations

from typing import Final

MAX_TREES: Final = 10_000
"""Unfinished task trees in memory. With one more, that without an event for the longest time is forgotten."""

MAX_TASKS: Final = 50_000
"""Tasks of all these trees, about 500 bytes each."""

MAX_TASKS_PER_TREE: Final = 5_000
"""Tasks of one tree that are shown."""

MAX_ENDED_TREES: Final = 10_000
"""Ended trees whose number of parts is kept, so that what comes later is the next part."""

MAX_PARTS: Final = 1000
"""Parts of one tree. What comes after the last one is not shown."""

CONFIRM_SECONDS: Final = 10.0
"""How long after a gap the workers may take to name what they run."""

PLACE_SECONDS: Final = 2.0
"""How long the event that names the tree of a running task may take to arrive, after its worker has named the task."""

MAX_UNPLACED: Final = 10_000

MAX_NOTES: Final = 1000
"""Tasks to which a message about a gap is added."""
