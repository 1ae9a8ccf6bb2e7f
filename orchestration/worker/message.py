"""The one kind of message that a worker accepts: run an attempt of a stage.

Everything that can write to the broker can put anything into its queues. So a message is read only as far as the two
numbers that it must contain, and is then built anew: no header, property or argument of a stranger reaches Celery.
"""

from __future__ import annotations

import base64
import binascii
import enum
import json
import logging
import uuid
from typing import Any, Final, NamedTuple

from orchestration.bounds import KIB
from orchestration.identifiers import TASK_NAME
from orchestration.log_throttle import LogThrottle

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES: Final = 64 * KIB
"""A larger message is dropped before it is decoded. Those of the scheduler and of services have fewer than 2 KiB."""

MAX_STAGE_ID: Final = 2**63 - 1
"""The largest primary key: a `BigAutoField`."""

MAX_ATTEMPT: Final = 2**31 - 1
"""The largest value of the attempt's column."""

_JSON: Final = "application/json"
_SHOWN_BYTES: Final = 60


class Flaw(enum.Enum):
    """What is wrong with a message. Each is logged on its own, once a minute."""

    TOO_LARGE = f"larger than {MAX_MESSAGE_BYTES} bytes"
    NOT_JSON = "not JSON"
    NOT_CELERY = "not a Celery message with headers, properties and a JSON body"
    OTHER_TASK = f"for another task than {TASK_NAME}"
    OTHER_ARGUMENTS = "its arguments are not a stage id and an attempt"


class InvalidMessage(Exception):
    """A message that no worker can run.

    Attributes:
        flaw: What is wrong with it.
        content: Its bytes, or what could be read of it.
    """

    def __init__(self, flaw: Flaw, content: object) -> None:
        super().__init__(flaw.value)
        self.flaw = flaw
        self.content = content


class Attempt(NamedTuple):
    """What a message says."""

    stage_id: int
    attempt: int


_throttles: Final = {flaw: LogThrottle(logger) for flaw in Flaw}


def log_dropped(error: InvalidMessage, *, queue: str) -> None:
    """Log that a message was dropped, once a minute for each flaw."""
    content = error.content if isinstance(error.content, bytes) else repr(error.content).encode("ascii", "replace")
    shown = ascii(content[:_SHOWN_BYTES])
    _throttles[error.flaw].log(
        "Dropped a message of queue %s: %s (%d bytes: %s)", ascii(queue)[1:-1], error.flaw.value, len(content), shown
    )


def read_item(item: bytes) -> Attempt:
    """Return what an item of a Redis list says, which should be a message as Kombu writes it.

    Raises:
        InvalidMessage: if it is anything else.
    """
    message = _decode_json(item, content=item)
    if not isinstance(message, dict):
        raise InvalidMessage(Flaw.NOT_CELERY, item)
    properties, body = message.get("properties"), message.get("body")
    if not isinstance(properties, dict) or not isinstance(body, str) or properties.get("body_encoding") != "base64":
        raise InvalidMessage(Flaw.NOT_CELERY, item)
    try:
        decoded = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidMessage(Flaw.NOT_CELERY, item) from None
    return read_message(
        headers=message.get("headers"),
        content_type=message.get("content-type"),
        content_encoding=message.get("content-encoding"),
        body=decoded,
    )


def read_message(*, headers: object, content_type: object, content_encoding: object, body: object) -> Attempt:
    """Return what a message of any transport says.

    Raises:
        InvalidMessage: if it is not a call of the one task with a stage id and an attempt.
    """
    if isinstance(body, str):
        body = body.encode("utf-8", "surrogatepass")
    if not isinstance(body, bytes | bytearray | memoryview):
        raise InvalidMessage(Flaw.NOT_CELERY, body)
    content = bytes(body)
    if not isinstance(headers, dict) or content_type != _JSON or content_encoding != "utf-8":
        raise InvalidMessage(Flaw.NOT_CELERY, content)
    if headers.get("task") != TASK_NAME:
        raise InvalidMessage(Flaw.OTHER_TASK, headers.get("task"))
    call = _decode_json(content, content=content)
    if not isinstance(call, list) or len(call) != 3:
        raise InvalidMessage(Flaw.NOT_CELERY, content)
    arguments, keywords, _ = call
    if not isinstance(arguments, list) or len(arguments) != 2 or keywords:
        raise InvalidMessage(Flaw.OTHER_ARGUMENTS, content)
    for value, largest in zip(arguments, (MAX_STAGE_ID, MAX_ATTEMPT), strict=True):
        # `True` is an integer too.
        if type(value) is not int or not 1 <= value <= largest:
            raise InvalidMessage(Flaw.OTHER_ARGUMENTS, content)
    return Attempt(*arguments)


def _decode_json(text: bytes, *, content: bytes) -> Any:
    if len(text) > MAX_MESSAGE_BYTES:
        raise InvalidMessage(Flaw.TOO_LARGE, content)
    try:
        return json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise InvalidMessage(Flaw.NOT_JSON, content) from None


def build_headers(attempt: Attempt) -> dict[str, Any]:
    """Return the headers of Celery's protocol 2 for a message that says this, with a new task id."""
    task_id = str(uuid.uuid4())
    return {
        "lang": "py",
        "task": TASK_NAME,
        "id": task_id,
        "root_id": task_id,
        "parent_id": None,
        "group": None,
        "eta": None,
        "expires": None,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": repr(tuple(attempt)),
        "kwargsrepr": "{}",
        "ignore_result": True,
    }


def build_body(attempt: Attempt) -> bytes:
    """Return the body of a message that says this."""
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return json.dumps([list(attempt), {}, embed]).encode()


def build_item(attempt: Attempt, *, queue: str) -> dict[str, Any]:
    """Return the message that Kombu delivers from a Redis list, with a new delivery tag."""
    headers = build_headers(attempt)
    return {
        "body": base64.b64encode(build_body(attempt)).decode(),
        "content-type": _JSON,
        "content-encoding": "utf-8",
        "headers": headers,
        "properties": {
            "correlation_id": headers["id"],
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }
