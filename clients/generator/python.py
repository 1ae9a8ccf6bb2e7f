"""The Python files: `messages.py`, `responses.py` and `requests.py`."""

from __future__ import annotations

import textwrap
import types
import typing
from datetime import datetime
from typing import Any, Literal

from msgspec import Raw, UnsetType

from generator.model import Field, Type

_NAMES = {type(None): "None", str: "str", int: "int", float: "float", bool: "bool", datetime: "datetime", Raw: "Any"}
_STRUCT = "msgspec.Struct, frozen=True, kw_only=True, gc=False"
_GENERATED = "Written by `make clients` from the structs of the server."


def messages_file(events: list[Type]) -> str:
    """Return the data of all events."""
    classes = "\n\n".join(_class(item, default_base=f"({_STRUCT})") for item in events)
    table = "\n".join(f'    "{item.message}": {item.name},' for item in events if item.message)
    return f'''"""The data of every event. {_GENERATED}"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from mahavishnu_client.state import PoolMetrics


class EventData({_STRUCT}):
    """The data of one event.

    Attributes:
        timestamp: The moment of the change.
        test: Whether it was sent to try out a client, and nothing has changed.
        truncated: Whether long values were cut.
        reported_by: Who reported the change to the server; empty if the server made it itself.
    """

    timestamp: datetime
    test: bool = False
    truncated: bool = False
    reported_by: str = ""


{classes}

EVENT_TYPES: Final[dict[str, type[EventData]]] = {{
{table}
}}
"""The data of each event, by its name."""
'''


def responses_file(responses: list[Type]) -> str:
    """Return the data of all responses."""
    classes = "\n\n".join(_class(item, default_base=f"({_STRUCT})") for item in responses)
    rows = sorted(name for name in ("Run", "StageState", "Worker") if f"{name}" in _words(classes))
    imports = ", ".join(sorted({"PoolRow", "RunRow", *rows}))
    return f'''"""The data of every response. {_GENERATED}"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from mahavishnu_client.state import {imports}


class ListedRun(RunRow, frozen=True, kw_only=True):
    """A run in the response to `list_workflows`.

    Attributes:
        adapter: What runs its stages.
        prompt: The beginning of its prompt.
        error: The beginning of its error.
    """

    adapter: str
    prompt: str
    error: str


class ListedPool(PoolRow, frozen=True, kw_only=True):
    """A pool in the response to `list_pools`.

    Attributes:
        created_at: When it was created.
    """

    created_at: datetime


class ListedWait({_STRUCT}):
    """What a stage waits for, or waited for, in the response to `list_waits`.

    Attributes:
        wait_id: A number that no other wait has.
        workflow_id: The run.
        workflow_name: The name of its workflow; empty if it has none.
        stage_name: The stage.
        name: The name under which it is answered; that of the signal.
        kind: `ask` for an answer, `signal` for a signal, `sleep` for a time.
        status: open, answered, expired or closed.
        title: What is asked; may be empty.
        schema: The JSON Schema of the answer; empty for any.
        recipients: Who should answer.
        opened_at: When the stage began to wait.
        expires_at: When the wait ends without an answer, if it does.
        by: Who answered; empty if that is unknown.
        answered_at: When the wait ended; None if it is open, or was closed.
    """

    wait_id: int
    workflow_id: str
    workflow_name: str
    stage_name: str
    name: str
    kind: str
    status: str
    title: str
    schema: dict[str, Any]
    recipients: tuple[str, ...]
    opened_at: datetime
    expires_at: datetime | None
    by: str
    answered_at: datetime | None


class ListedEvent({_STRUCT}):
    """An event in the response to `list_events`.

    Attributes:
        id: A UUID, the same in each channel.
        event: Its name.
        data: Its data as received.
        timestamp: When the change happened.
        seq: Its position in the event log.
    """

    id: str
    event: str
    data: dict[str, Any]
    timestamp: datetime
    seq: int


{classes}'''


def requests_file(requests: list[Type], responses: list[Type], *, is_sync: bool) -> str:
    """Return the requests as methods."""
    by_message = {item.message: item.name for item in responses if item.message}
    methods = "\n".join(_method(item, by_message[item.message], is_sync=is_sync) for item in requests)
    name, keyword = ("SyncRequests", "") if is_sync else ("Requests", "async ")
    kind = "The same requests as methods that wait" if is_sync else "The requests as methods"
    return f'''"""{kind}. {_GENERATED}"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from mahavishnu_client import responses

T = TypeVar("T")


class {name}:
    """Every request of the protocol but those that the client sends by itself.

    Each raises `RequestFailed` if the server answers with an error, such as `NotFound`; `ConnectionLost` if the
    connection ends first; and `RequestTimeout` if there is no answer within `timeout_seconds`.
    """

    {keyword}def _call(self, name: str, data: dict[str, Any], response: type[T], timeout_seconds: float | None) -> T:
        raise NotImplementedError

{methods}'''


def _method(item: Type, response: str, *, is_sync: bool) -> str:
    required = [f"{field.name}: {_argument(field)}" for field in item.fields if not field.is_optional]
    optional = [f"{field.name}: {_argument(field)} | None = None" for field in item.fields if field.is_optional]
    arguments = ", ".join(["self", *required, "*", *optional, "timeout_seconds: float | None = None"])
    data = ", ".join(f'"{field.wire_name}": {field.name}' for field in item.fields)
    keyword, wait = ("", "") if is_sync else ("async ", "await ")
    return f'''    {keyword}def {item.message}({arguments}) -> responses.{response}:
{_docstring(item.doc, indent=8)}
        data: dict[str, Any] = {{{data}}}
        return {wait}self._call("{item.message}", data, responses.{response}, timeout_seconds)
'''


def _class(item: Type, *, default_base: str) -> str:
    base = f"({item.base}, frozen=True, kw_only=True)" if item.base else default_base
    fields = [f"    {field.name}: {_annotation(field)}" for field in item.fields]
    body = "\n\n" + "\n".join(fields) if fields else ""
    return f"class {item.name}{base}:\n{_docstring(item.doc, indent=4)}{body}\n"


def _docstring(doc: str, *, indent: int) -> str:
    text = doc if "\n" not in doc else f"{doc}\n"
    return textwrap.indent(f'"""{text}"""', " " * indent)


def _annotation(field: Field) -> str:
    text = type_name(field.type)
    if not field.is_optional:
        return text
    if text.startswith("dict"):
        return f"{text} = {{}}"
    if text.startswith("tuple") and "None" not in text:
        return f"{text} = ()"
    return f"{text} = None" if "None" in text or text == "Any" else f"{text} | None = None"


def _argument(field: Field) -> str:
    return type_name(field.type, list_name="Sequence").replace(" | None", "")


def type_name(hint: Any, *, list_name: str = "tuple") -> str:
    """Return a type as Python source."""
    if hint in _NAMES:
        return _NAMES[hint]
    if isinstance(hint, typing.ForwardRef | str):
        return hint if isinstance(hint, str) else hint.__forward_arg__
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "str"
    if origin in (typing.Union, types.UnionType):
        parts = [type_name(part, list_name=list_name) for part in arguments if part is not UnsetType]
        return " | ".join(dict.fromkeys(parts))
    if origin is list:
        inner = type_name(arguments[0], list_name=list_name)
        return f"{list_name}[{inner}]" if list_name == "Sequence" else f"tuple[{inner}, ...]"
    if origin is dict:
        return f"dict[{type_name(arguments[0])}, {type_name(arguments[1])}]"
    return "Any" if hint is Any else str(hint.__name__)


def _words(text: str) -> set[str]:
    return set("".join(letter if letter.isalnum() or letter == "_" else " " for letter in text).split())
