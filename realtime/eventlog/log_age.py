"""The age of events, measured without a wall clock.

Servers delete old events by themselves, and a wall clock may be wrong: by hours after a step, by years after a start
without a battery. So the age of the log is counted in its running time: the seconds in which a server process ran, by
its monotonic clock. A sample stores which event was the newest at one moment of the running time. The sample was taken
after the event was committed, so an event of an earlier sample is at least as old as the running time since then.

The running time never advances faster than real time:

- A process advances it by its own monotonic clock, from what it had stored itself.
- A sample that another process stored in the meantime may have a lower running time than it should have, because that
  process had just started. Its events would seem too old. So each process that advances the running time moves all
  samples that are newer than its own last one to the new running time.
- After a database was put back, samples of other processes may have the numbers of lost ones. So a process whose own
  last sample is missing from the end starts to count again.

A machine that is suspended or off counts nothing: its events are kept for longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.db import transaction
from django.db.models import F

from realtime.eventlog.position import current_position
from realtime.models import Log, LogSample

_RELATIVE_PRECISION: Final = 16
"""Two neighboring samples differ by at most this part of their age, once there are enough: an event is deleted up to a
sixteenth later than it may be. 7 days then take fewer than 300 samples."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The log at one moment.

    Attributes:
        seq: Position of the newest event.
        age_seconds: How long ago this was, at least.
    """

    seq: int
    age_seconds: float


@dataclass(frozen=True, slots=True)
class _Stored:
    """What this process stored last, and when, on its monotonic clock."""

    epoch: str
    sample_id: int
    running_seconds: float
    at: float

    def is_in(self, epoch: str, newest_id: int) -> bool:
        """Return whether the log still has this sample or had it: no older copy of the database was put back."""
        return self.epoch == epoch and self.sample_id <= newest_id


class LogAge:
    """The age of the log, as one process measures it."""

    def __init__(self) -> None:
        self._stored: _Stored | None = None

    def sample(self, *, now: float, keep_seconds: float) -> list[Sample]:
        """Store a sample of the log, and return the samples, oldest first. The last one is the new one.

        Args:
            now: The monotonic clock of this process, in seconds.
            keep_seconds: Age up to which samples are needed. Older ones are deleted, except one.
        """
        with transaction.atomic():
            # Takes the lock of the row on Postgres, and the write lock on SQLite: processes sample one after another.
            Log.objects.filter(pk=1).update(trimmed_seq=F("trimmed_seq"))
            position = current_position()
            samples = LogSample.objects.order_by("pk")
            newest_id, running_seconds = samples.values_list("pk", "running_seconds").last() or (0, 0.0)
            if self._stored is not None and self._stored.is_in(position.epoch, newest_id):
                counted = self._stored.running_seconds + now - self._stored.at
                if counted > running_seconds:
                    running_seconds = counted
                    samples.filter(pk__gt=self._stored.sample_id).update(running_seconds=counted)
            new = LogSample.objects.create(seq=position.seq, running_seconds=running_seconds)
            rows = list(samples.values_list("pk", "seq", "running_seconds"))
            needed = _needed([running_seconds - row[2] for row in rows], keep_seconds)
            samples.exclude(pk__in=[rows[index][0] for index in needed]).delete()
        self._stored = _Stored(position.epoch, new.pk, running_seconds, now)
        return [Sample(rows[index][1], running_seconds - rows[index][2]) for index in needed]


def _needed(ages: Sequence[float], keep_seconds: float) -> list[int]:
    """Return the indexes of the samples to keep: neighbors differ by a small part of their age.

    Args:
        ages: Seconds, oldest first.
        keep_seconds: Only one sample of at least this age is kept.
    """
    needed = [len(ages) - 1]
    for index in range(len(ages) - 2, -1, -1):
        if ages[needed[-1]] >= keep_seconds:
            break
        is_oldest = index == 0
        if is_oldest or ages[index - 1] - ages[needed[-1]] > ages[index - 1] / _RELATIVE_PRECISION:
            needed.append(index)
    return needed[::-1]
