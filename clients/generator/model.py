"""The structs of the server that clients have too, as plain descriptions."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

import realtime.protocol
from realtime.events.types import EVENT_TYPES, EventData
from realtime.protocol.requests import REQUESTS

ABSENT_IN_SUMMARY = ("result", "params", "stages")
"""Fields of events that the channel `summary` does not have."""

ROWS = {
    ("list_stages", "stages"): "StageState",
    ("get_workflow", "workflow"): "Run",
    ("list_workflows", "workflows"): "ListedRun",
    ("list_pools", "pools"): "ListedPool",
    ("list_workers", "workers"): "Worker",
    ("list_waits", "waits"): "ListedWait",
    ("list_events", "events"): "ListedEvent",
}
"""What is in the fields that the server passes on as JSON: the structs of the clients' states."""

OWN_REQUESTS = ("subscribe", "unsubscribe", "auth", "refresh_token")
"""The requests that a client sends on its own. They are no methods."""

_LIST_FIELDS = ("stages", "workflows", "pools", "workers", "waits", "events")


@dataclass(frozen=True)
class Field:
    """One field of a struct.

    Attributes:
        name: Its name as an argument.
        wire_name: Its name in JSON.
        type: Its type. The types of state structs are their names.
        is_optional: Whether it may be absent.
    """

    name: str
    wire_name: str
    type: Any
    is_optional: bool


@dataclass(frozen=True)
class Type:
    """One struct.

    Attributes:
        name: The name of its class.
        base: The name of its base class; empty if it has none here.
        doc: Its docstring.
        fields: Its own fields.
        message: The name of the event, request or response; empty for a base class or a part.
    """

    name: str
    base: str
    doc: str
    fields: list[Field] = field(default_factory=list)
    message: str = ""


def event_types() -> list[Type]:
    """Return the data of all events: each base class before its subclasses."""
    names: dict[type[EventData], str] = {cls: name for name, cls in EVENT_TYPES.items()}
    classes: dict[str, type[EventData]] = {}
    for event in EVENT_TYPES.values():
        for cls in reversed(event.__mro__):
            if issubclass(cls, EventData) and cls is not EventData:
                classes.setdefault(cls.__name__, cls)
    described: list[Type] = []
    for part in _parts(classes.values()):
        described.append(Type(part.__name__, "", _doc(part), [_field(part, name) for name in part.__struct_fields__]))
    for cls in classes.values():
        base: Any = cls.__base__
        own = [name for name in cls.__struct_fields__ if name not in base.__struct_fields__]
        name = names.get(cls, "")
        described.append(Type(cls.__name__, base.__name__, _doc(cls), [_event_field(cls, n) for n in own], name))
    return _with_common_fields(described)


def response_types() -> list[Type]:
    """Return the data of the responses to requests, in the order of the requests."""
    found: dict[str, type[msgspec.Struct]] = {}
    for module in pkgutil.iter_modules(realtime.protocol.__path__):
        for _, cls in inspect.getmembers(importlib.import_module(f"realtime.protocol.{module.name}"), inspect.isclass):
            match = re.match(r"The response to `(\w+)`", cls.__doc__ or "")
            if match is not None and issubclass(cls, msgspec.Struct):
                found[match[1]] = cls
    missing = REQUESTS.keys() - found.keys()
    assert not missing, f"No struct of realtime.protocol has a docstring that begins 'The response to `{missing}`'"
    responses = {name: found[name] for name in REQUESTS if name not in OWN_REQUESTS}
    parts = [
        Type(part.__name__, "", _doc(part), [_field(part, name) for name in part.__struct_fields__])
        for part in _parts(responses.values())
    ]
    return parts + [
        Type(cls.__name__, "", _doc(cls), [_response_field(cls, name, n) for n in cls.__struct_fields__], name)
        for name, cls in responses.items()
    ]


def request_types() -> list[Type]:
    """Return the requests that are methods of a client."""
    return [
        Type(cls.__name__, "", _doc(cls), [_field(cls, n) for n in cls.__struct_fields__], name)
        for name, cls in REQUESTS.items()
        if name not in OWN_REQUESTS
    ]


def _field(cls: Any, name: str) -> Field:
    (info,) = (info for info in msgspec.structs.fields(cls) if info.name == name)
    hint = typing.get_type_hints(cls)[name]
    has_unset = msgspec.UnsetType in typing.get_args(hint)
    return Field(name, info.encode_name, hint, has_unset or not info.required)


def _event_field(cls: Any, name: str) -> Field:
    described = _field(cls, name)
    if name not in ABSENT_IN_SUMMARY:
        return described
    return Field(name, described.wire_name, described.type, True)


def _response_field(cls: Any, message: str, name: str) -> Field:
    described = _field(cls, name)
    row = ROWS.get((message, name))
    if row is None:
        return described
    row_type = list[row] if name in _LIST_FIELDS else row  # type: ignore[valid-type]
    return Field(name, described.wire_name, row_type, described.is_optional)


def _with_common_fields(described: list[Type]) -> list[Type]:
    """Move fields that all direct subclasses of a base class have to the base class."""
    for index, base in enumerate(described):
        children = [child for child in described if child.base == base.name]
        if base.message or len(children) < 2:
            continue
        common = [item for item in children[0].fields if all(item in child.fields for child in children[1:])]
        described[index] = Type(base.name, base.base, base.doc, [*base.fields, *common], base.message)
        for child in children:
            child.fields[:] = [item for item in child.fields if item not in common]
    return described


def _parts(classes: Any) -> Iterator[Any]:
    """Yield the structs inside the fields of these, each once."""
    seen: set[type] = set()
    for cls in classes:
        for hint in typing.get_type_hints(cls).values():
            for inner in _inner_types(hint):
                is_struct = isinstance(inner, type) and issubclass(inner, msgspec.Struct)
                if is_struct and inner not in seen and inner.__name__ != "PoolMetrics":
                    seen.add(inner)
                    yield from (part for part in _parts([inner]) if part not in seen)
                    yield inner


def _inner_types(hint: Any) -> Iterator[Any]:
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType) or arguments:
        for argument in arguments:
            yield from _inner_types(argument)
    else:
        yield hint


def _doc(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "")
