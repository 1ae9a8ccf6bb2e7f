"""10,000 items of one stage with a limit of 100, compared with 10,000 parallel stages of the plan.

Items and stages do nothing. *ms* is the time of one of them with two slots; *CPU ms* that of the worker's processes.
"""

from __future__ import annotations

from typing import Any

from benchmarks.engine_runs import RunningEngine, running_engine
from benchmarks.report import Report, by_figure

COUNT = 10_000
LIMIT = 100

_KINDS: dict[str, dict[str, Any]] = {
    "stages": {"name": "wide", "width": COUNT},
    "items": {"name": "wide_map", "count": COUNT, "limit": LIMIT},
}


def run(report: Report, *, rounds: int) -> None:
    """Measure stages and items in turn."""
    with running_engine() as engine:
        figures: dict[str, list[dict[str, float]]] = {kind: [] for kind in _KINDS}
        for number in range(rounds):
            for kind in _KINDS:
                figures[kind].append(_measure(engine, kind, number))
    for kind, measured in figures.items():
        report.add(kind=kind, **by_figure(measured))
    pairs = list(zip(figures["items"], figures["stages"], strict=True))
    ratios = [{name: items[name] / stages[name] for name in items} for items, stages in pairs]
    report.add(kind="ratio", **by_figure(ratios))


def _measure(engine: RunningEngine, kind: str, number: int) -> dict[str, float]:
    seconds = 0.0

    def work() -> None:
        nonlocal seconds
        _, seconds = engine.run([f"{kind}_{number}"], **_KINDS[kind])

    cpu_ms = engine.cpu_ms(work)
    return {"ms": seconds * 1000 / COUNT, "cpu_ms": cpu_ms / COUNT}
