"""What each event loop has once. A server process has one loop; tests may run several in a process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One object for each event loop, freed with the loop."""

    def __init__(self) -> None:
        self._objects: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()

    def get(self, create: Callable[[], T]) -> T:
        """Return the object of the running loop; `create` makes it at the first call."""
        loop = asyncio.get_running_loop()
        found = self._objects.get(loop)
        if found is None:
            found = self._objects[loop] = create()
        return found
