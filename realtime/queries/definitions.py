"""The defined workflows, for `list_definitions`: read in a thread, because the first read imports the code of users."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final

from orchestration.log_throttle import LogThrottle
from orchestration.sdk import Definition, definitions
from orchestration.sdk.parameter_schema import first_paragraph, parameters_schema
from orchestration.text import storable
from realtime.database import in_database_thread
from realtime.protocol.payload import encode_data, size_in_bytes

CACHE_SECONDS: Final = 10.0
"""How long a list is used again. Each read imports again what cannot be imported."""

_undescribed = LogThrottle(logging.getLogger(__name__))


@dataclass(frozen=True, slots=True)
class DefinitionList:
    """The workflows that can be started, sorted by name.

    Attributes:
        definitions: JSON text of an array.
        is_truncated: Whether the last ones were left out, because of their size.
        size_bytes: The size of the text.
    """

    definitions: str
    is_truncated: bool
    size_bytes: int


class DefinitionQueries:
    """The list of one event loop. Concurrent callers share a read, which continues without them.

    Args:
        max_bytes: The most bytes of the list.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._list: DefinitionList | None = None
        self._read_at = 0.0
        self._reading: asyncio.Task[DefinitionList] | None = None

    async def listed(self) -> DefinitionList:
        """Return the list, which may be `CACHE_SECONDS` old."""
        if self._list is not None and asyncio.get_running_loop().time() - self._read_at < CACHE_SECONDS:
            return self._list
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._end)
        return await asyncio.shield(self._reading)

    async def _read(self) -> DefinitionList:
        self._list = await in_database_thread(read_definitions, max_bytes=self._max_bytes)
        self._read_at = asyncio.get_running_loop().time()
        return self._list

    def _end(self, reading: asyncio.Task[DefinitionList]) -> None:
        self._reading = None
        if not reading.cancelled():
            reading.exception()  # All callers may have left; asyncio would log it as never retrieved.


def read_definitions(*, max_bytes: int) -> DefinitionList:
    """Return the definitions of all modules that can be imported, the first ones up to `max_bytes`."""
    texts: list[str] = []
    size_bytes = 0
    is_truncated = False
    for _, definition in sorted(definitions().items()):
        text = _described(definition)
        if size_bytes + size_in_bytes(text) > max_bytes:
            is_truncated = True
            break
        texts.append(text)
        size_bytes += size_in_bytes(text)
    return DefinitionList(f"[{','.join(texts)}]", is_truncated, size_bytes)


def _described(definition: Definition) -> str:
    fields: dict[str, Any] = {
        "name": definition.name,
        "description": storable(first_paragraph(definition.function)),
        "adapter": definition.adapter,
    }
    try:
        return encode_data({**fields, "parameters": parameters_schema(definition)})
    except Exception as error:
        # Annotations and defaults are a user's code and may raise anything.
        _undescribed.log(
            "Cannot describe the parameters of workflow %s (%r); clients receive a schema that accepts any",
            definition.name,
            error,
        )
        return encode_data({**fields, "parameters": {}})
