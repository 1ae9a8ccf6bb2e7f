"""The base class of events: name, signal, data and channels. A subclass with a name is registered automatically."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any, ClassVar, Self

import msgspec
from django.dispatch import Signal

from realtime.protocol.channels import channel_of

EVENT_TYPES: dict[str, type[EventData]] = {}
"""The class of every event, by name."""


class EventData(msgspec.Struct, kw_only=True):
    """The data of one event.

    Attributes:
        event: The name of the event in messages.
        signal: The Django signal that causes the event.
        rooms_from: The resource types of its channels besides `global`. The field `<type>_id` contains the id of each
            resource. The first type is that of the resource the event is about.
        sample: The values that `emit_test_event` uses for missing fields.
        timestamp: The moment of the change.
        reported_by: Who reported the change to this server; unset if the server made it itself.
    """

    event: ClassVar[str]
    signal: ClassVar[Signal]
    rooms_from: ClassVar[tuple[str, ...]]
    sample: ClassVar[dict[str, Any]] = {}

    timestamp: datetime
    reported_by: str | msgspec.UnsetType = msgspec.UNSET

    def __init_subclass__(cls, **config: Any) -> None:
        super().__init_subclass__(**config)
        if "event" in cls.__dict__:
            EVENT_TYPES[cls.event] = cls

    @classmethod
    def from_signal(cls, *_: Any, **arguments: Any) -> Self:
        """Build the event from the keyword arguments of its signal (`orchestration.signals`)."""
        raise NotImplementedError

    @classmethod
    def _build(cls, resource: object, **values: Any) -> Self:
        """Build an event of these values; copy the other fields from the attributes of `resource`."""
        copied = {field: getattr(resource, field) for field in _own_fields(cls) if field not in values}
        return cls(**copied, **values)

    @classmethod
    def _build_new(cls, resource: object, **values: Any) -> Self:
        """Build the event of a new resource, which has been reported by whom its row says."""
        built = cls._build(resource, **values)
        built.reported_by = getattr(resource, "reported_by", "") or msgspec.UNSET
        return built

    def rooms(self) -> tuple[str, ...]:
        """Return the channels this event belongs to besides `global`."""
        return tuple(channel_of(kind, getattr(self, f"{kind}_id")) for kind in self.rooms_from)


@cache
def _own_fields(event_type: type[EventData]) -> tuple[str, ...]:
    """Return the fields of an event without `reported_by`, which is that of the event and not of its resource."""
    return tuple(field for field in event_type.__struct_fields__ if field != "reported_by")
