"""`manage.py simulate`: make a living system for people to watch."""

from __future__ import annotations

import math
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from random import SystemRandom
from time import monotonic
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from orchestration.management.database_errors import readable_database_errors
from orchestration.simulation import Simulation, SimulationOptions
from realtime.management.arguments import number, whole_number
from realtime.management.server_check import server_problem

REPORT_SECONDS = 10.0
"""How often a line is printed where there is no terminal."""

_MAX_SECONDS_BEHIND = 1.0
"""What was missed of the rate is caught up, but not more than this."""

_MAX_RANDOM_SEED = 9999

_PATIENCE_SECONDS = 1.0

INTERRUPTED = 130
"""The exit code of a run that was broken off: 128 and the number of SIGINT, as shells count."""


class Command(BaseCommand):
    help = (
        "Makes pools, workers and workflows, and lets them work, fail, break and recover until --duration is over or "
        "Ctrl-C. It ends cleanly: what is under way is cancelled, and the workers go offline. The same seed tells the "
        "same story. Pools and workers have the same ids in every run (sim_pool_1, sim_pool_1_worker_1); workflows "
        "are sim_<seed>_<number>, and the numbers go on from one run to the next."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        several = whole_number(minimum=1, maximum=1000)
        parser.add_argument("--pools", type=several, default=3, metavar="N", help="Pools (default: 3).")
        parser.add_argument("--workers", type=several, default=12, metavar="N", help="Workers in all (default: 12).")
        parser.add_argument(
            "--workflows", type=several, default=8, metavar="N", help="Workflows under way at a time (default: 8)."
        )
        parser.add_argument(
            "--rate",
            type=number(minimum=0.01, maximum=100_000),
            default=10.0,
            metavar="R",
            help="Changes a second (default: 10).",
        )
        parser.add_argument(
            "--failures",
            type=number(minimum=0, maximum=1),
            default=0.15,
            metavar="P",
            help="Share of workflows that fail, time out or are cancelled, from 0 to 1 (default: 0.15).",
        )
        parser.add_argument(
            "--seed", type=whole_number(minimum=0, maximum=2**53), metavar="S", help="Which story (default: any)."
        )
        parser.add_argument(
            "--duration",
            type=number(minimum=0.1, maximum=365 * 86400),
            metavar="S",
            help="Seconds (default: until Ctrl-C).",
        )

    def handle(
        self,
        *args: Any,
        pools: int,
        workers: int,
        workflows: int,
        rate: float,
        failures: float,
        seed: int | None,
        duration: float | None,
        **options: Any,
    ) -> None:
        if workers < pools:
            raise CommandError(f"--workers {workers} for --pools {pools}: expected at least one worker for each pool.")
        plan = SimulationOptions(
            pools=pools,
            workers=workers,
            workflows=workflows,
            failures=failures,
            seed=SystemRandom().randint(1, _MAX_RANDOM_SEED) if seed is None else seed,
        )
        if (reason := server_problem()) is not None:
            self.stderr.write(f"{reason} Events are stored all the same, and reach clients that resume.")
        self.stdout.write(f"Simulating with --seed {plan.seed}. Ctrl-C ends it.")
        with readable_database_errors(), stopped_by_signals() as stop:
            self.simulate(Simulation(plan), rate=rate, duration_seconds=duration, stop=stop)

    def simulate(
        self, simulation: Simulation, *, rate: float, duration_seconds: float | None, stop: threading.Event
    ) -> None:
        """Make changes at the rate, until the time is over, `stop` is set or nothing can change any more."""
        started = due = reported = monotonic()
        end = started + (duration_seconds if duration_seconds is not None else math.inf)
        made = 0
        total = round(rate * duration_seconds) if duration_seconds is not None else None
        # Nothing is drawn where there is no terminal.
        bar = tqdm(total=total, unit=" changes", file=sys.stderr, disable=None, dynamic_ncols=True)
        try:
            with bar:
                for _ in simulation.changes():
                    made += 1
                    bar.set_postfix_str(progress_of(simulation), refresh=False)
                    bar.update()
                    now = monotonic()
                    if bar.disable and now - reported >= REPORT_SECONDS:
                        reported = now
                        self.stdout.write(f"{now - started:.0f} s, {made} changes: {progress_of(simulation)}")
                        self.stdout.flush()
                    due = max(due + 1 / rate, now - _MAX_SECONDS_BEHIND)
                    if stop.wait(max(0.0, min(due, end) - now)) or monotonic() >= end:
                        break
                else:
                    self.stderr.write("Nothing can change any more: the pools accept no workflows.")
        finally:
            seconds = monotonic() - started
            outcome = progress_of(simulation)
            cancelled = simulation.end()
        self.stdout.write(
            f"Made {made} changes in {seconds:.1f} s ({made / seconds:.1f} a second). "
            f"Of {simulation.created} workflows: {outcome}. "
            f"At the end {cancelled} were cancelled and the workers went offline."
        )
        if simulation.refused:
            self.stdout.write(f"Refused, because somebody else changed something: {simulation.refused}.")


def progress_of(simulation: Simulation) -> str:
    """How many workflows are under way and how many came to which end."""
    ends = (f"{count} {end}" for end, count in sorted(simulation.ended.items()))
    return ", ".join((f"{simulation.running} running", *ends))


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets, so that no change is broken off in the middle.

    Raises:
        CommandError: the same was asked for again, a moment later: whoever did has no time for a clean end.
    """
    stop = threading.Event()
    impatient_at = math.inf

    def stop_soon(received: int, frame: FrameType | None) -> None:
        nonlocal impatient_at
        if monotonic() >= impatient_at:
            raise CommandError("Broken off: workflows may be left running, and workers busy.", returncode=INTERRUPTED)
        if not stop.is_set():
            # What sends a signal may send it twice at once, to the process and to its group.
            impatient_at = monotonic() + _PATIENCE_SECONDS
        stop.set()

    previous = {each: signal.signal(each, stop_soon) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
