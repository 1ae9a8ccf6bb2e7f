"""Wide runs, for the benchmark `engine`: the cost of a stage, and the wait of a short run behind a wide one."""

from __future__ import annotations

import json

from benchmarks.engine_runs import END_SECONDS, RunningEngine
from benchmarks.report import Report, by_figure, percentile

WIDTHS = (100, 4_000)
WIDTH_IN_FRONT = 10_000
SHORT_RUNS = 20


def add_wide_runs(report: Report, engine: RunningEngine, *, rounds: int) -> None:
    """Add a row for each width, without and with one read of `ctx.results` in each stage, and one for short runs."""
    for part in ("empty", "reading"):
        figures = {width: [_measure(engine, width, part, number) for number in range(rounds)] for width in WIDTHS}
        for width in WIDTHS:
            report.add(contestant="mahavishnu", width=width, part=part, **by_figure(figures[width]))
    waits = [_measure_short_runs(engine, number) for number in range(rounds)]
    report.add(contestant="one stage behind a wide run", width=WIDTH_IN_FRONT, **by_figure(waits))


def _measure(engine: RunningEngine, width: int, part: str, number: int) -> dict[str, float]:
    seconds = 0.0

    def work() -> None:
        nonlocal seconds
        _, seconds = engine.run([f"wide_{part}_{width}_{number}"], name="wide", width=width, part=part)

    cpu_ms = engine.cpu_ms(work)
    stages = width + 2
    return {"stages_per_second": stages / seconds, "cpu_ms_per_stage": cpu_ms / stages}


def _measure_short_runs(engine: RunningEngine, number: int) -> dict[str, float]:
    """Run short runs one by one while a wide run takes every slot that is free."""
    in_front = f"in_front_{number}"
    with engine.subscribed(f"workflow:{in_front}") as client:
        engine.start([in_front], name="wide", width=WIDTH_IN_FRONT)
        while json.loads(client.recv(timeout=END_SECONDS))["data"].get("stage_name") != "part_0":
            pass
    ids = [f"short_{number}_{short}" for short in range(SHORT_RUNS)]
    durations_ms = [engine.run([workflow_id], name="one_empty_stage")[0][0] for workflow_id in ids]
    engine.cancel(in_front)
    return {"p50_ms": percentile(durations_ms, 50), "p95_ms": percentile(durations_ms, 95)}
