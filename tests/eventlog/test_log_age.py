"""Servers prune by an age that no wall clock and no other process can make too great."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from realtime.eventlog.append import NewEvent, append_events
from realtime.eventlog.log_age import LogAge, _needed
from realtime.eventlog.position import current_position
from realtime.eventlog.retention import LogPruner, Retention
from realtime.models import Event, LogSample
from tests.eventlog import server_with_wrong_clock
from tests.harness.engine import EngineProcess
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

KEEP_SECONDS = 1000.0


def on_both_databases(test: Callable[[], None]) -> Callable[[], None]:
    """Mark a test that runs in this process, on its database."""
    marked: Callable[[], None] = pytest.mark.both_databases(pytest.mark.django_db(transaction=True)(test))
    return marked


def append(count: int = 1) -> list[int]:
    """Append events, each in its own transaction, and return their positions."""
    seqs = []
    for _ in range(count):
        event = NewEvent(name="workflow.started", timestamp=timezone.now(), data="{}", rooms=("workflow:a",))
        with transaction.atomic():
            seqs.append(append_events([event])[0].event.seq)
    return seqs


def remaining() -> list[int]:
    return list(Event.objects.order_by("seq").values_list("seq", flat=True))


@on_both_databases
def test_age_is_counted_from_the_first_sample_that_contains_an_event() -> None:
    age = LogAge()
    (before,) = append()
    age.sample(now=100, keep_seconds=KEEP_SECONDS)
    (after,) = append()
    samples = age.sample(now=160, keep_seconds=KEEP_SECONDS)
    assert [(sample.seq, sample.age_seconds) for sample in samples] == [(before, 60), (after, 0)]


@on_both_databases
def test_age_is_kept_when_the_server_restarts_and_downtime_does_not_count() -> None:
    (seq,) = append()
    age = LogAge()
    age.sample(now=100, keep_seconds=KEEP_SECONDS)
    age.sample(now=160, keep_seconds=KEEP_SECONDS)
    # After a reboot the monotonic clock starts again.
    age = LogAge()
    age.sample(now=5, keep_seconds=KEEP_SECONDS)
    samples = age.sample(now=35, keep_seconds=KEEP_SECONDS)
    assert (samples[0].seq, samples[0].age_seconds) == (seq, 90)


@on_both_databases
def test_event_is_not_older_because_a_process_that_just_started_sampled_it() -> None:
    old, new = LogAge(), LogAge()
    old.sample(now=0, keep_seconds=KEEP_SECONDS)
    (seq,) = append()
    new.sample(now=90, keep_seconds=KEEP_SECONDS)  # Does not know that 90 s have passed.
    samples = old.sample(now=100, keep_seconds=KEEP_SECONDS)
    assert all(sample.age_seconds == 0 for sample in samples if sample.seq >= seq)
    new.sample(now=140, keep_seconds=KEEP_SECONDS)
    samples = old.sample(now=150, keep_seconds=KEEP_SECONDS)
    assert max(sample.age_seconds for sample in samples if sample.seq >= seq) == 50


@on_both_databases
def test_event_is_not_older_after_an_older_copy_of_the_database_was_put_back() -> None:
    old = LogAge()
    old.sample(now=0, keep_seconds=KEEP_SECONDS)
    copy = list(LogSample.objects.all())
    for now in (500, 501, 502):
        old.sample(now=now, keep_seconds=KEEP_SECONDS)
    LogSample.objects.exclude(pk__in=[sample.pk for sample in copy]).delete()
    (seq,) = append()
    # A process that starts after it stores the number of a sample that is lost.
    LogSample.objects.create(pk=copy[-1].pk + 1, seq=seq, running_seconds=copy[-1].running_seconds)
    samples = old.sample(now=600, keep_seconds=KEEP_SECONDS)
    assert max(sample.age_seconds for sample in samples if sample.seq >= seq) == 0


@on_both_databases
def test_server_keeps_events_that_it_has_not_seen_for_the_minimum_age() -> None:
    pruner = LogPruner(Retention(max_events=2, max_age=timedelta(days=7), min_age=timedelta(seconds=60)))
    first = append(5)
    assert pruner.prune(now=0) == 0
    second = append(3)
    assert pruner.prune(now=59) == 0
    assert pruner.prune(now=60) == 5
    assert (remaining(), current_position().trimmed_seq) == (second, first[-1])
    assert pruner.prune(now=120) == 1
    assert remaining() == second[1:]


@on_both_databases
def test_server_deletes_events_of_the_maximum_age() -> None:
    pruner = LogPruner(Retention(max_events=1000, max_age=timedelta(seconds=600), min_age=timedelta(0)))
    append(5)
    assert pruner.prune(now=0) == 0
    kept = append(2)
    assert pruner.prune(now=599) == 0
    assert pruner.prune(now=600) == 5
    assert remaining() == kept


class LogAgeModel(TestCase):
    """For each order of samples, starts and pauses of several processes, no event is taken to be older than it is."""

    @settings(max_examples=25)
    @given(
        st.lists(
            st.tuples(st.integers(0, 2), st.sampled_from(["sample", "restart", "append"]), st.floats(0, 100, width=16)),
            max_size=25,
        )
    )
    def test_measured_age_never_exceeds_the_real_age(self, steps: list[tuple[int, str, float]]) -> None:
        real, processes = 0.0, [LogAge() for _ in range(3)]
        appended_at: dict[int, float] = {}
        for number, step, seconds in steps:
            real += seconds
            if step == "restart":
                processes[number] = LogAge()
            elif step == "append":
                appended_at[append()[0]] = real
            else:
                # Each process has its own monotonic clock.
                samples = processes[number].sample(now=real + 1000 * number, keep_seconds=KEEP_SECONDS)
                for seq, at in appended_at.items():
                    measured = max((sample.age_seconds for sample in samples if sample.seq >= seq), default=0.0)
                    assert measured <= real - at + 1e-6


def test_samples_of_a_week_are_few_and_close_together() -> None:
    interval, week = 600.0, 7 * 86400.0
    taken: list[float] = []
    for number in range(int(week / interval) + 1):
        taken.append(number * interval)
        ages = [taken[-1] - at for at in taken]
        taken = [taken[index] for index in _needed(ages, week)]
    ages = [taken[-1] - at for at in taken]
    assert (ages[0], ages[-1]) == (week, 0)
    assert len(ages) < 200
    assert all(older - younger <= max(interval, older / 16) for older, younger in pairwise(ages))


@pytest.fixture
def busy_server(start_server: StartServer) -> MahavishnuServer:
    """Start a server whose log has 20 events."""
    server = start_server()
    for number in range(20):
        server.services.create_pool(pool_id=f"pool_{number}")
    return server


@pytest.mark.parametrize("error_seconds", [8 * 86400, -3600])
def test_server_with_a_wrong_clock_prunes_nothing(
    busy_server: MahavishnuServer, start_server: StartServer, error_seconds: int
) -> None:
    other = start_server(beside=busy_server, started=False, min_log_age_seconds=0, log_prune_interval_seconds=0.1)
    arguments = ("--endpoint", f"tcp:port={other.port}:interface=127.0.0.1", "mahavishnu_site.asgi:application")
    process = EngineProcess(other, server_with_wrong_clock.__name__, str(error_seconds), *arguments, name="wrong")
    try:
        wait_until(other._answers, timeout_seconds=60, what=process.log_text)
        wait_until(lambda: samples_of(busy_server)[0] > 1, timeout_seconds=60, what="ten rounds of pruning")
    finally:
        process.close()
    assert samples_of(busy_server)[1] == 20
    assert "Pruned" not in process.log_text()


def samples_of(server: MahavishnuServer) -> tuple[float, int]:
    """Return the running time of the log in seconds, and the number of events in it."""
    running_seconds, events = server.services_driver.execute(
        "from realtime.models import Event, LogSample\n"
        "result = [getattr(LogSample.objects.last(), 'running_seconds', 0.0), Event.objects.count()]"
    )
    return float(running_seconds), int(events)
