"""Answer a request with an `Idempotency-Key` once: the answer is committed together with the changes of the request.

A client whose connection ends before it has the answer does not know whether its changes are stored. It sends the same
request with the same key again, and gets the stored answer.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.db import Error, IntegrityError, connection, transaction
from django.http import HttpRequest, HttpResponse

from orchestration.db import before_commit
from orchestration.db.clock import database_now
from orchestration.db.retry import is_contended
from realtime.api.problems import Problem
from realtime.auth.identity import Identity
from realtime.eventlog.position import current_position
from realtime.events.recorder import Recorded, record_events
from realtime.models import StoredAnswer
from realtime.protocol.payload import size_in_bytes
from realtime.protocol.problems import ProblemCode
from realtime.stored_answers import (
    MAX_STORED_ANSWER_BYTES,
    ROW_BYTES,
    NoRoom,
    oldest_repeated,
    stored_bytes,
)

KEY_PATTERN: Final = "[!-~]{1,64}"
"""1 to 64 visible ASCII characters."""

MAX_ATTEMPTS: Final = 3
"""How often changes are tried that another transaction got in the way of: it inserted the same rows, or waited too."""

COMPRESSION_LEVEL: Final = 1
"""The fastest: it takes 0.5 ms for the answer to a report of 1000 events."""

NO_ROOM_RETRY_AFTER_SECONDS: Final = 60
"""When a client may try again, if there is no room for its answer. Each minute, the oldest answers are deleted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered: an HTTP status and JSON text.

    Attributes:
        is_replayed: Whether it was stored by an earlier request with the same key.
    """

    status: int
    body: str
    is_replayed: bool = False

    def response(self) -> HttpResponse:
        """Return the response."""
        headers = {"Idempotency-Replayed": "true"} if self.is_replayed else {}
        return HttpResponse(self.body, status=self.status, content_type="application/json", headers=headers)


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The key of a request, which belongs to a user and a path, and the hash of its query and its body."""

    user_id: str
    path: str
    key: str
    body_hash: str


@dataclass(slots=True)
class _PendingAnswer:
    """An answer that the current transaction stores at its end, when its events have their numbers."""

    key: RequestKey | None
    recorded: Recorded
    make: Callable[[Recorded], Answer]
    answer: Answer | None = None


_running: set[tuple[str, str, str]] = set()
_running_lock = threading.Lock()


def key_of_request(request: HttpRequest, identity: Identity) -> RequestKey | None:
    """Return the key of a request; None without the header `Idempotency-Key`.

    Raises:
        Problem: if the header is not 1 to 64 visible ASCII characters.
    """
    return request_key(
        request.headers.get("Idempotency-Key"),
        user_id=identity.user_id,
        # Without a query and a path prefix, which may have any length.
        path=request.path_info,
        content=request.META.get("QUERY_STRING", "").encode() + b"\n" + request.body,
    )


def request_key(key: str | None, *, user_id: str, path: str, content: bytes) -> RequestKey | None:
    """Return the key of a request with this header and content."""
    if key is None:
        return None
    if re.fullmatch(KEY_PATTERN, key) is None:
        expected = "expected 1 to 64 visible ASCII characters"
        raise Problem(
            ProblemCode.INVALID_PARAMETERS,
            f"Idempotency-Key: {expected}",
            errors=[{"path": "header.Idempotency-Key", "detail": expected}],
        )
    return RequestKey(user_id, path, key, hashlib.sha256(content).hexdigest())


def answer_once(
    key: RequestKey | None, act: Callable[[Recorded], Callable[[Recorded], Answer]], *, reported_by: str = ""
) -> Answer:
    """Make changes in one transaction, and return the answer.

    If a request with the same key was answered, return that answer and change nothing.

    Args:
        key: The key of the request, if it has one.
        act: Makes the changes, and returns the function that makes the answer. That is called at the end of the
            transaction, when the events in `written` have their numbers. It may be called again in a new transaction.
        reported_by: Who reports the changes.

    Raises:
        Problem: if the key belongs to another request, or to one that is still running; or if there is no room for
            the answer. Then nothing is changed.
    """
    if key is None:
        return _answered(None, act, reported_by)
    name = (key.user_id, key.path, key.key)
    with _running_lock:
        if name in _running:
            raise Problem(ProblemCode.KEY_IN_USE, "Send the same request again later", retry_after_seconds=1)
        _running.add(name)
    try:
        stored_bytes.read_if_old(now=time.monotonic())
        return _answered(key, act, reported_by)
    finally:
        _running.discard(name)


def _answered(
    key: RequestKey | None, act: Callable[[Recorded], Callable[[Recorded], Answer]], reported_by: str
) -> Answer:
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            return _attempt(key, act, reported_by)
        except Error as error:
            is_in_the_way = isinstance(error, IntegrityError) or is_contended(error)
            if not is_in_the_way or attempt == MAX_ATTEMPTS or connection.in_atomic_block:
                raise
    raise AssertionError


def _attempt(
    key: RequestKey | None, act: Callable[[Recorded], Callable[[Recorded], Answer]], reported_by: str
) -> Answer:
    with record_events(reported_by) as recorded:
        with transaction.atomic():
            if key is not None:
                if (stored := _stored_answer(key)) is not None:
                    return stored
                _check_room(key)
            pending = _PendingAnswer(key, recorded, act(recorded))
            before_commit.collect(pending)
        assert pending.answer is not None
        return pending.answer


def _stored_answer(key: RequestKey) -> Answer | None:
    rows = StoredAnswer.objects.filter(user_id=key.user_id, path=key.path, key=key.key)
    row = rows.values_list("body_hash", "status", "compressed_body", "created_at").first()
    if row is None:
        return None
    body_hash, status, compressed, created_at = row
    if created_at < oldest_repeated():
        rows.delete()
        return None
    if body_hash != key.body_hash:
        raise Problem(ProblemCode.KEY_REUSED, "Send another key with another request")
    return Answer(status, zlib.decompress(compressed).decode(), is_replayed=True)


def _check_room(key: RequestKey) -> None:
    try:
        stored_bytes.check_room(key.user_id)
    except NoRoom as error:
        code = ProblemCode.RATE_LIMIT_EXCEEDED if error.is_user else ProblemCode.UNAVAILABLE
        detail = f"{error}: no new Idempotency-Key is accepted for now. Nothing was changed"
        raise Problem(code, detail, retry_after_seconds=NO_ROOM_RETRY_AFTER_SECONDS) from None


def _check_size(answer: Answer) -> None:
    size_bytes = size_in_bytes(answer.body)
    if size_bytes > MAX_STORED_ANSWER_BYTES:
        detail = f"The answer has {size_bytes} bytes, and {MAX_STORED_ANSWER_BYTES} can be stored"
        raise Problem(ProblemCode.INVALID_PARAMETERS, f"{detail}: send a smaller request. Nothing was changed")


def _store(pending_answers: list[_PendingAnswer]) -> None:
    for pending in pending_answers:
        recorded = pending.recorded
        if not recorded.epoch:
            recorded.epoch = current_position().epoch
        answer = pending.answer = pending.make(recorded)
        if (key := pending.key) is None:
            continue
        _check_size(answer)
        # The results of a report are alike: 1000 of them take 3 to 20 KB, of 80.
        compressed = zlib.compress(answer.body.encode(), COMPRESSION_LEVEL)
        fields: dict[str, Any] = {"user_id": key.user_id, "path": key.path, "key": key.key}
        fields |= {
            "body_hash": key.body_hash,
            "status": answer.status,
            "compressed_body": compressed,
            "size_bytes": ROW_BYTES + len(compressed),
            "created_at": database_now(),
        }
        StoredAnswer.objects.bulk_create([StoredAnswer(**fields)])
        stored_bytes.add(key.user_id, fields["size_bytes"])


# After the events, whose numbers the answer has.
before_commit.install(_PendingAnswer, _store, phase=before_commit.Phase.ANSWER)
