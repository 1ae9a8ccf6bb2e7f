"""`manage.py simulate`: simulate a busy system, to try out clients and the admin."""

from __future__ import annotations

import math
import select
import signal
from collections.abc import Callable
from random import SystemRandom
from time import monotonic
from types import FrameType
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.progress import TimeElapsedColumn

from orchestration.management.database_errors import readable_database_errors
from orchestration.management.output import EscapingCommand
from orchestration.processes import signal_pipe
from orchestration.simulation import Simulation, SimulationOptions
from realtime.management.arguments import number, whole_number
from realtime.management.server_check import delayed_delivery_warning
from realtime.management.terminal import ProgressLine, TextOfField, progress_bar

REPORT_SECONDS = 10.0
"""Interval of the progress lines without a terminal."""

_DRAW_SECONDS = 0.1

_MAX_SECONDS_BEHIND = 1.0
"""How far the simulation may fall behind its rate and still catch up."""

_MAX_RANDOM_SEED = 9999

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_DUPLICATE_SIGNAL_SECONDS = 1.0
"""A second signal within this time is a duplicate: sent to the process and also to its group. A later signal aborts."""


class Command(EscapingCommand):
    """Run a simulation."""

    help = (
        "Simulates pools, workers and workflows, with failures and recoveries, for --duration seconds or until Ctrl-C. "
        "At the end it cancels unfinished workflows and marks the workers offline. The same seed gives the same "
        "sequence of changes. Pools and workers have the same ids in every run (sim_pool_1, sim_pool_1_worker_1); "
        "workflows are sim_<seed>_<number>, and the numbers continue from one run to the next."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        count = whole_number(minimum=1, maximum=1000)
        parser.add_argument("--pools", type=count, default=3, metavar="N", help="Number of pools (default: 3).")
        parser.add_argument(
            "--workers", type=count, default=12, metavar="N", help="Total number of workers (default: 12)."
        )
        parser.add_argument(
            "--workflows", type=count, default=8, metavar="N", help="Workflows in progress at a time (default: 8)."
        )
        parser.add_argument(
            "--rate",
            type=number(minimum=0.01, maximum=100_000),
            default=10.0,
            metavar="R",
            help="Changes per second (default: 10).",
        )
        parser.add_argument(
            "--failures",
            type=number(minimum=0, maximum=1),
            default=0.15,
            metavar="P",
            help="Share of workflows that fail, time out or are cancelled, from 0 to 1 (default: 0.15).",
        )
        parser.add_argument(
            "--seed",
            type=whole_number(minimum=0, maximum=2**53),
            metavar="S",
            help="Seed of the random choices (default: random).",
        )
        parser.add_argument(
            "--duration",
            type=number(minimum=0.1, maximum=365 * 86400),
            metavar="S",
            help="Duration in seconds (default: until Ctrl-C).",
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
            raise CommandError(
                f"--workers {workers} is less than --pools {pools}: expected at least one worker per pool."
            )
        simulation_options = SimulationOptions(
            pools=pools,
            workers=workers,
            workflows=workflows,
            failure_rate=failures,
            seed=SystemRandom().randint(1, _MAX_RANDOM_SEED) if seed is None else seed,
        )
        if (warning := delayed_delivery_warning()) is not None:
            self.stderr.write(warning)
        self.stdout.write(f"Simulating with --seed {simulation_options.seed}. Press Ctrl-C to stop.")
        with readable_database_errors(), signal_pipe(_STOP_SIGNALS, handler=abort_on_later_signal()) as pipe:
            self.simulate(Simulation(simulation_options), rate=rate, duration_seconds=duration, pipe=pipe)

    def simulate(self, simulation: Simulation, *, rate: float, duration_seconds: float | None, pipe: int) -> None:
        """Make changes at `rate` per second, until the duration has passed or nothing can change.

        The first signal in the pipe ends the simulation after the current change.
        """
        started = due = reported = monotonic()
        end = started + (duration_seconds if duration_seconds is not None else math.inf)
        made = 0
        total = round(rate * duration_seconds) if duration_seconds is not None else None
        columns = [progress_bar()] if total is not None else []
        line = ProgressLine(self.stdout, self.stderr, *columns, TimeElapsedColumn(), TextOfField("made"), total=total)
        try:
            with line:
                for _ in simulation.changes():
                    made += 1
                    now = monotonic()
                    if now - reported >= (_DRAW_SECONDS if line.is_shown else REPORT_SECONDS):
                        reported = now
                        progress = progress_of(simulation)
                        line.draw(completed=made, made=f"{made} changes: {progress}")
                        if not line.is_shown:
                            line.write(f"{now - started:.0f} s, {made} changes: {progress}")
                    due = max(due + 1 / rate, now - _MAX_SECONDS_BEHIND)
                    stopped, _, _ = select.select([pipe], [], [], max(0.0, min(due, end) - now))
                    if stopped or monotonic() >= end:
                        break
                else:
                    self.stderr.write("Nothing left to simulate: no pool accepts workflows.")
        finally:
            seconds = monotonic() - started
            progress = progress_of(simulation)
            cancelled = simulation.stop()
        self.stdout.write(
            f"Made {made} changes in {seconds:.1f} s ({made / seconds:.1f} per second). "
            f"{simulation.created} workflows: {progress}. "
            f"Cancelled {cancelled} workflows and marked the workers offline."
        )
        if simulation.conflicts:
            self.stdout.write(f"Changes rejected because another process had changed a row: {simulation.conflicts}.")


def progress_of(simulation: Simulation) -> str:
    """Return the number of running workflows, and of finished ones by status."""
    outcomes = (f"{count} {outcome}" for outcome, count in sorted(simulation.outcomes.items()))
    return ", ".join((f"{simulation.running} running", *outcomes))


def abort_on_later_signal() -> Callable[[int, FrameType | None], None]:
    """Return a signal handler that raises `CommandError` for a signal at least a second after the first.

    Signals within `_DUPLICATE_SIGNAL_SECONDS` count as one.
    """
    abort_from = math.inf

    def handle_signal(received: int, frame: FrameType | None) -> None:
        nonlocal abort_from
        now = monotonic()
        if now >= abort_from:
            # The exit code is the convention of shells: 128 plus the number of the signal.
            raise CommandError(
                "Aborted: some workflows may still be running and some workers busy.", returncode=128 + received
            )
        abort_from = min(abort_from, now + _DUPLICATE_SIGNAL_SECONDS)

    return handle_signal
