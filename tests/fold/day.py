"""A simulated day: operations in any order on the real database, on a clock that the day sets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar
from unittest import mock

from django.db import IntegrityError, transaction
from django.db.models import Model, ProtectedError, QuerySet

from orchestration.scheduler import Scheduler
from orchestration.services import ServiceError
from tests.fold.channel_states import ChannelStates, Record

T = TypeVar("T")
M = TypeVar("M", bound=Model)

MAX_RUNS = 6
REFUSED = (ServiceError, IntegrityError, ProtectedError)
"""What the services, and the database, answer to an operation that is not allowed now."""


class Choose(Protocol):
    """Chooses one of some options: at random, or as Hypothesis wants."""

    def __call__(self, options: Sequence[T]) -> T: ...


class NotPossible(Exception):
    """There is nothing that the operation could change."""


Operation = Callable[["Day"], object]
OPERATIONS: dict[str, Operation] = {}
WEIGHTED: list[str] = []
"""The names of the operations, each as often as it should be chosen."""


def operation(times: int = 1) -> Callable[[Operation], Operation]:
    """Register what may happen in a day, so many times as often as others."""

    def register(function: Operation) -> Operation:
        OPERATIONS[function.__name__] = function
        WEIGHTED.extend([function.__name__] * times)
        return function

    return register


class Day:
    """One day.

    Args:
        record: Receives all events and snapshots.

    Attributes:
        choose: Decides what the current step does.
        now: The clock of the day, which the services and SQLite read.
        steps: What happened, for people.
        done: How many operations had an effect, by name.
    """

    def __init__(self, record: Record | None = None) -> None:
        self.choose: Choose = lambda options: options[0]
        self.now = datetime(2026, 2, 10, tzinfo=UTC)
        self.steps: list[str] = []
        self.done: dict[str, int] = {}
        self.channels = ChannelStates(record)
        self.scheduler = Scheduler()
        self._numbers: dict[str, int] = {}

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Make the clock of the day that of Django."""
        with mock.patch("django.utils.timezone.now", lambda: self.now):
            yield

    def step(self, choose: Choose, *, without: Collection[str] = ()) -> None:
        """Do one operation, and compare the states of all channels with the snapshots.

        Args:
            choose: Decides which one, and what it does.
            without: The names of operations that are not chosen.
        """
        self.choose = choose
        self.now += timedelta(seconds=1)
        name = choose([name for name in WEIGHTED if name not in without] if without else WEIGHTED)
        self.steps.append(f"{self.now:%H:%M:%S} {name}")
        try:
            with self.clock():
                if self.do(name):
                    self.channels.update()
        except BaseException as error:
            error.add_note("\n".join(self.steps))
            raise

    def do(self, name: str, *, is_part: bool = False) -> bool:
        """Do an operation. Return False if there was nothing to do.

        Args:
            name: The operation.
            is_part: Whether it is part of a transaction of the caller, which continues if it is refused.
        """
        if is_part:
            self.now += timedelta(milliseconds=1)
        try:
            with transaction.atomic() if is_part else nullcontext():
                OPERATIONS[name](self)
        except NotPossible:
            self.log("nothing to do")
            return False
        except REFUSED as error:
            self.log(f"refused: {error}")
        else:
            self.done[name] = self.done.get(name, 0) + 1
        return True

    def log(self, text: str) -> None:
        """Add what was chosen to the steps."""
        self.steps.append(f"  {text}")

    def new_id(self, prefix: str) -> str:
        """Return an id that this day has not used."""
        number = self._numbers[prefix] = self._numbers.get(prefix, 0) + 1
        return f"{prefix}{number}"

    def pick(self, rows: QuerySet[M]) -> M:
        """Choose a row.

        Raises:
            NotPossible: if there is none.
        """
        row = self.choose(self.some(list(rows.order_by("pk")[:50])))
        self.log(f"{type(row).__name__} {row}")
        return row

    def some(self, options: Sequence[T]) -> Sequence[T]:
        """Return the options.

        Raises:
            NotPossible: if there are none.
        """
        if not options:
            raise NotPossible
        return options

    def maybe(self, times: int = 2) -> bool:
        """Return True once in so many times."""
        return self.choose(range(times)) == times - 1

    def run_scheduler(self) -> None:
        """Run the jobs of a scheduler once; all but the heartbeat and the pruning of runs, which have operations."""
        self.scheduler._clock._expire_from = self.scheduler._stalled_runs_due_at = 0.0
        for job in self.scheduler.jobs:
            if job.__name__ not in ("record_heartbeat", "prune_runs"):
                job(self.now)
