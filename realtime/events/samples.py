"""Test events, which `manage.py emit_test_event` sends to try out a client. They change no state.

A test event is announced like a real one, with the same fields and channels, and with `test: true` in its data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from django.conf import settings

from orchestration.models import Worker
from realtime.events.receivers import announce_as_given
from realtime.events.truncation import truncate_json
from realtime.events.types import EVENT_TYPES
from realtime.models import Event
from realtime.protocol.channels import GLOBAL, InvalidChannel, channel_of, check_channel, source_of, split_channel

MAX_NAME_CHARACTERS = Event._meta.get_field("name").max_length or 0

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")

_RESERVED_PREFIX = "session."
"""Prefix of the events about one connection, which have no channel: the welcome and the notice before a close."""

# The channels of an event with an unknown name, by the first word of the name.
_ROOMS_BY_FIRST_WORD: dict[str, tuple[str, ...]] = {
    "workflow": ("workflow",),
    "pool": ("pool",),
    "worker": ("worker", "pool"),
}


class UnusableEvent(ValueError):
    """The arguments do not make a valid event. The message says what is wrong and what is expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleEvent:
    """One event, ready to be announced.

    Attributes:
        rooms: The channels it is delivered through besides `global`.
        is_known: Whether the name is one of this server's events.
    """

    name: str
    data: dict[str, Any]
    rooms: tuple[str, ...]
    timestamp: datetime
    is_known: bool

    @property
    def channels(self) -> tuple[str, ...]:
        """All channels it is delivered through."""
        return (*self.rooms, GLOBAL)

    def announce(self, *, on_written: Callable[[int], None]) -> None:
        """Announce it if the current transaction commits. Call `on_written` with its seq just before the commit."""
        announce_as_given(self.name, data=self.data, rooms=self.rooms, timestamp=self.timestamp, on_written=on_written)


def sample_event(
    name: str,
    *,
    data: Mapping[str, Any],
    resource_id: str | None = None,
    room: str | None = None,
    at: datetime,
) -> SampleEvent:
    """Make an event from `data`. If its name is known, fill missing fields with sample values.

    Args:
        name: The name of the event, known to this server or not.
        data: The fields to set.
        resource_id: The workflow, pool or worker it is about. Required unless `data` or `room` contains it.
        room: A further channel to deliver it through.
        at: The timestamp of the event.

    Raises:
        UnusableEvent: if the server could not deliver such an event.
    """
    if len(name) > MAX_NAME_CHARACTERS or _NAME.fullmatch(name) is None:
        raise UnusableEvent(
            f"Invalid event name {name[:MAX_NAME_CHARACTERS]!r}: expected words of letters, digits, '_' and '-' "
            f"with dots between them, {MAX_NAME_CHARACTERS} characters at most"
        )
    if name.startswith(_RESERVED_PREFIX):
        raise UnusableEvent(f'Event names starting with "{_RESERVED_PREFIX}" are reserved')
    struct = EVENT_TYPES.get(name)
    sample = _sample_of(name)
    kinds = struct.rooms_from if struct else _ROOMS_BY_FIRST_WORD.get(name.partition(".")[0], ())
    try:
        extra_room = () if room is None else (check_channel(room),)
        ids = _resource_ids(name, kinds, resource_id, data, room)
        rooms = tuple(check_channel(channel_of(kind, ids[kind])) for kind in kinds if kind in ids)
    except InvalidChannel as error:
        raise UnusableEvent(str(error)) from None
    id_fields = {f"{kind}_id": id for kind, id in ids.items()}
    fields = {**id_fields, "timestamp": at, **sample, **_with_sample_status(data, sample), **id_fields, "test": True}
    if struct is not None:
        _check_types(name, fields, struct)
    _check_size(fields)
    return SampleEvent(
        name=name,
        data=fields,
        rooms=tuple(dict.fromkeys(channel for channel in (*rooms, *extra_room) if source_of(channel) != GLOBAL)),
        timestamp=at,
        is_known=struct is not None,
    )


def _resource_ids(
    name: str, kinds: tuple[str, ...], resource_id: str | None, data: Mapping[str, Any], room: str | None
) -> dict[str, str]:
    """Return the id of each resource by kind. Ids come from the argument, the data, the room or the database."""
    if not kinds:
        if resource_id is not None:
            raise UnusableEvent(f"{name} is not about a workflow, pool or worker: expected a channel, and no id")
        return {}
    about, *others = kinds
    in_data = {kind: _text(data, f"{kind}_id") for kind in kinds if f"{kind}_id" in data}
    if resource_id is not None:
        if in_data.get(about, resource_id) != resource_id:
            raise UnusableEvent(f"data.{about}_id is {in_data[about]!r}, but the id argument is {resource_id!r}")
        in_data[about] = resource_id
    in_room = dict([split_channel(room)] if room is not None else [])
    about_id = in_data.get(about, in_room.get(about))
    if about_id is None:
        raise UnusableEvent(
            f"{name} is about a {about}: "
            f"expected its id, as an argument, as data.{about}_id or in a channel {about}:<id>"
        )
    # Checked before the first query: Postgres does not accept NUL.
    check_channel(channel_of(about, about_id))
    ids = {about: about_id}
    if "pool" in others:
        pool_id = in_data.get("pool") or _pool_of(about_id) or in_room.get("pool") or _sample_of(name).get("pool_id")
        ids |= {"pool": pool_id} if pool_id is not None else {}
    return ids


def _pool_of(worker_id: str) -> str | None:
    return Worker.objects.filter(pk=worker_id).values_list("pool_id", flat=True).first()


def _sample_of(name: str) -> Mapping[str, Any]:
    return EVENT_TYPES[name].sample if name in EVENT_TYPES else {}


def _text(data: Mapping[str, Any], field: str) -> str:
    value = data[field]
    if not isinstance(value, str):
        raise UnusableEvent(f"data.{field} is {value!r}: expected text")
    return value


def _with_sample_status(data: Mapping[str, Any], sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return `data`. If `status` is an object, as in a pool's event, take its missing fields from the sample."""
    return {
        field: sample[field] | value
        if field == "status" and isinstance(value, dict) and isinstance(sample.get(field), dict)
        else value
        for field, value in data.items()
    }


def _check_types(name: str, fields: Mapping[str, Any], struct: type[msgspec.Struct]) -> None:
    try:
        msgspec.convert(fields, struct)
    except msgspec.ValidationError as error:
        raise UnusableEvent(f"{name}: {str(error).replace('`$', '`data')}") from None


def _check_size(fields: Mapping[str, Any]) -> None:
    try:
        truncate_json(fields, max_bytes=settings.MAHAVISHNU_LIMITS.max_event_data_bytes)
    except RecursionError:
        raise UnusableEvent("The event's data is nested too deeply") from None
    except ValueError as error:
        raise UnusableEvent(str(error)) from None
