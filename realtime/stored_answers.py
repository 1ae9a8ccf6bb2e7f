"""How long the answers to requests with an Idempotency-Key are kept, and how many bytes they take.

An answer is never dropped before its time: the same request would be carried out twice. So new keys are refused while
there is no room.
"""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta
from math import inf
from typing import Final

from django.conf import settings
from django.db.models import Sum

from orchestration.bounds import MIB
from orchestration.db.clock import database_now
from orchestration.log_throttle import LogThrottle
from realtime.limits import Limits
from realtime.models import StoredAnswer

_no_room = LogThrottle(logging.getLogger(__name__))

KEPT_HOURS: Final = 24
"""How long a stored answer is repeated."""

MAX_STORED_ANSWER_BYTES: Final = MIB
"""Size of one answer before its compression. That to a report of 1000 events has 80 KB, or 250 KB if all of them are
refused."""

ROW_BYTES: Final = 512
"""What a stored answer takes besides its text, about: its key, its path, its user, and their index."""

READ_INTERVAL_SECONDS: Final = 60.0
"""How often a process reads what all answers take. Meanwhile it adds its own."""

_USER_SHARE: Final = 2
"""One user may take the bytes of all divided by this."""

_MAX_PRUNED: Final = 10_000
"""Answers that are deleted in one transaction."""


class NoRoom(Exception):
    """No further answer can be stored for now.

    Attributes:
        is_user: Whether it is the user who has too many, so others have room.
    """

    def __init__(self, used_bytes: int, limit_bytes: int, *, is_user: bool) -> None:
        whose = "of this user" if is_user else "of all users"
        super().__init__(f"The stored answers {whose} take {used_bytes} of {limit_bytes} bytes")
        self.is_user = is_user


class StoredBytes:
    """What the stored answers of each user take, as one process knows it."""

    def __init__(self) -> None:
        self._by_user: dict[str, int] = {}
        self._read_at = -inf
        self._added: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, user_id: str, size_bytes: int) -> None:
        """Add an answer that this process stores."""
        with self._lock:
            for each in (self._by_user, self._added):
                each[user_id] = each.get(user_id, 0) + size_bytes

    def read_if_old(self, *, now: float) -> None:
        """Read the database if that was `READ_INTERVAL_SECONDS` ago. Not in a transaction, which may hold locks.

        Args:
            now: Seconds on a monotonic clock.

        Raises:
            django.db.Error
        """
        with self._lock:
            if now - self._read_at < READ_INTERVAL_SECONDS:
                return
            read_before, self._read_at, self._added = self._read_at, now, {}
        try:
            # Those that are repeated no longer take bytes until they are deleted.
            by_user = dict(StoredAnswer.objects.values_list("user_id").annotate(Sum("size_bytes")))
        except BaseException:
            self._read_at = read_before
            raise
        with self._lock:
            # The read may have missed what was added meanwhile.
            self._by_user = {user: by_user.get(user, 0) + self._added.get(user, 0) for user in {*by_user, *self._added}}

    def check_room(self, user_id: str) -> None:
        """Check that there is room for one more answer.

        Raises:
            NoRoom
        """
        limits: Limits = settings.MAHAVISHNU_LIMITS
        limit_bytes = limits.max_stored_answers_bytes
        with self._lock:
            of_user, of_all = self._by_user.get(user_id, 0), sum(self._by_user.values())
        for used_bytes, most_bytes, is_user in (
            (of_all, limit_bytes, False),
            (of_user, limit_bytes // _USER_SHARE, True),
        ):
            if used_bytes >= most_bytes:
                error = NoRoom(used_bytes, most_bytes, is_user=is_user)
                _no_room.log("Refused a new Idempotency-Key: %s (MAHAVISHNU_MAX_STORED_ANSWERS_BYTES)", error)
                raise error


stored_bytes = StoredBytes()


def oldest_repeated() -> datetime:
    """Return the time since which answers are repeated."""
    return database_now() - timedelta(hours=KEPT_HOURS)


def prune_stored_answers() -> int:
    """Delete answers that are repeated no longer, and return their number. Call it until it returns 0."""
    old = StoredAnswer.objects.filter(created_at__lt=oldest_repeated()).order_by("created_at")
    deleted, _ = StoredAnswer.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:_MAX_PRUNED])).delete()
    return deleted
