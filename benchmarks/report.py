"""The results of a benchmark: a table for people, JSON for machines."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from os import cpu_count
from pathlib import Path
from typing import Any

_VERSIONS_OF = ("django", "channels", "channels-redis", "daphne", "twisted", "autobahn", "websockets", "msgspec")


@dataclass
class Report:
    """The rows of one benchmark."""

    name: str
    about: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, **columns: Any) -> None:
        """Add a row. A list of numbers, one for each round, is shown as its median and range."""
        self.rows.append(columns)
        shown = ", ".join(f"{name} {_shown(value)}" for name, value in columns.items())
        print(f"  {shown}", flush=True)

    def table(self) -> str:
        """Return the rows as a Markdown table."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        lines = [names, ["---"] * len(names)]
        lines += [[_shown(row[name]) if name in row else "" for name in names] for row in self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def write(self, folder: Path) -> None:
        """Write `<name>.json` with the rows, the machine and the versions."""
        folder.mkdir(parents=True, exist_ok=True)
        measured = {
            "benchmark": self.name,
            "about": self.about,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cores": cpu_count(),
            "versions": {name: version(name) for name in _VERSIONS_OF},
            "rows": self.rows,
        }
        (folder / f"{self.name}.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a value that at least `percent` of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def by_figure(rounds: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return the values of each figure, from every round that has it."""
    names = dict.fromkeys(name for figures in rounds for name in figures)
    return {name: [figures[name] for figures in rounds if name in figures] for name in names}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        low, middle, high = min(value), statistics.median(value), max(value)
        return f"{middle:.4g}" if low == high else f"{middle:.4g} ({low:.4g}-{high:.4g})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
