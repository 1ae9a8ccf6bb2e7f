"""Messages as Kombu writes them to Redis, and what else could be in their place."""

from __future__ import annotations

import base64
import json
from typing import Any

from orchestration.worker.message import MAX_MESSAGE_BYTES

CALL = [[2**62, 1], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
HEADERS = {"lang": "py", "task": "orchestration.run_stage", "id": "c0ffee", "retries": 0, "timelimit": [None, None]}
PROPERTIES = {
    "correlation_id": "c0ffee",
    "body_encoding": "base64",
    "delivery_tag": "tag",
    "delivery_info": {"exchange": "", "routing_key": "x"},
    "priority": 0,
}


def encoded(body: bytes) -> str:
    return base64.b64encode(body).decode()


def message(**fields: Any) -> bytes:
    """Return a message as Kombu writes it, with other fields; a field of None is left out."""
    whole = {
        "body": encoded(json.dumps(CALL).encode()),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": HEADERS,
        "properties": PROPERTIES,
    }
    fields = {name.replace("_", "-"): value for name, value in fields.items()}
    return json.dumps({name: value for name, value in (whole | fields).items() if value is not None}).encode()


def call(*arguments: Any, **keywords: Any) -> bytes:
    return message(body=encoded(json.dumps([arguments, keywords, CALL[2]]).encode()))


GARBAGE: dict[str, bytes] = {
    "one word": b"hello",
    "nothing": b"",
    "bytes that are no text": b"\xff\xfe\x00\x80",
    "half a message": message()[:100],
    "a list": b"[1, 2]",
    "a number": b"17",
    "null": b"null",
    "a string": b'"hello"',
    "an unknown type of Kombu": b'{"__type__": "nothing", "__value__": 1}',
    "deep nesting": b"[" * 30_000,
    "deep nesting in the body": message(body=encoded(b"[[1, 1], {}, " + b"[" * 30_000)),
    "an empty object": b"{}",
    "no properties": message(properties=None),
    "properties of another type": message(properties=[1]),
    "no headers": message(headers=None),
    "headers of another type": message(headers="hello"),
    "no body": message(body=None),
    "a body of another type": message(body={"a": 1}),
    "a body that is not base64": message(body="not base64!"),
    "a body of another encoding": message(properties={**PROPERTIES, "body_encoding": "rot13"}),
    "a body that is not JSON": message(body=encoded(b"hello")),
    "a body that is no call": message(body=encoded(b"{}")),
    "a pickle": message(content_type="application/x-python-serialize", body=encoded(b"cos\nsystem\n(S'id'\ntR.")),
    "another content type": message(content_type="application/nothing"),
    "a content type of another type": message(content_type=["a"]),
    "another content encoding": message(content_encoding="klingon"),
    "a compressed body": message(headers={**HEADERS, "compression": "application/x-gzip"}, body=encoded(b"\x1f\x8b")),
    "an unknown task": message(headers={**HEADERS, "task": "os.system"}),
    "a task of Celery": message(headers={**HEADERS, "task": "celery.starmap"}),
    "a task of another type": message(headers={**HEADERS, "task": {"a": 1}}),
    "protocol 1": message(headers={}, body=encoded(json.dumps({"task": "os.system", "args": [1]}).encode())),
    "no arguments": call(),
    "one argument": call(1),
    "keywords": call(1, 1, forged=True),
    "text for numbers": call("1", "1"),
    "a flag for a number": call(True, True),
    "a number beyond the column": call(2**70, 1),
    "an attempt beyond the column": call(1, 2**40),
    "a negative number": call(-1, 1),
    "lists for numbers": call([1], {"a": 1}),
    "a large message": message(body=encoded(b"x" * MAX_MESSAGE_BYTES)),
}

# These say nothing wrong: they name a stage and an attempt that are not due. What else they say is not read.
IGNORED: dict[str, bytes] = {
    "no delivery tag": message(properties={"body_encoding": "base64"}),
    "a delivery tag of another type": message(properties={**PROPERTIES, "delivery_tag": [1]}),
    "a delivery tag": message(),
    "the same delivery tag": message(),
    "a time far away": message(headers={**HEADERS, "eta": "9999-01-01T00:00:00"}),
    "a time that is none": message(headers={**HEADERS, "eta": {"a": 1}, "expires": "never"}),
    "a time limit": message(headers={**HEADERS, "timelimit": [0.001, "x"]}),
    "no task id": message(headers={"task": HEADERS["task"]}),
    "a priority": message(properties={**PROPERTIES, "priority": "high"}),
    "delivery information of another type": message(properties={**PROPERTIES, "delivery_info": 1}),
    "callbacks": message(body=encoded(json.dumps([CALL[0], {}, {"callbacks": [{"task": "os.system"}]}]).encode())),
    "an embedded object of another type": message(body=encoded(json.dumps([CALL[0], {}, 5]).encode())),
}
