"""`docs/scaling.md`: its results follow from its figures, and the commands it cites exist."""

from __future__ import annotations

import ast
import re

import pytest

from benchmarks.__main__ import BENCHMARKS
from tests.docs.markdown import PROJECT_DIR, blocks, page, table

SCALING = page("docs/scaling.md")
UNITS = table(SCALING, first="Unit")
COMPUTED = table(SCALING, first="Part") + table(SCALING, first="Question")
ROUNDED_BY = 0.02


def computed(arithmetic: str) -> float:
    """Evaluate an arithmetic cell with the figures of the page."""
    figures = {row["Unit"]: float(row["Figure"]) for row in UNITS}
    names = {node.id for node in ast.walk(ast.parse(arithmetic)) if isinstance(node, ast.Name)}
    assert names <= set(figures)
    return float(eval(arithmetic, {}, figures))


@pytest.mark.parametrize("row", COMPUTED, ids=lambda row: row["Arithmetic"])
def test_scaling_result_follows_from_the_figures(row: dict[str, str]) -> None:
    shown = float(row["Result"].replace(",", ""))
    assert shown == pytest.approx(computed(row["Arithmetic"]), rel=ROUNDED_BY)


def test_measured_figure_names_its_benchmark() -> None:
    printed = [row["Printed by"] for row in UNITS if row["Printed by"]]
    assert len(printed) == len(UNITS) - 2
    for cited in printed:
        command = re.fullmatch(r"python -m benchmarks (\w+): .+", cited)
        assert command is not None, cited
        assert command[1] in BENCHMARKS
        for name in re.findall(r"\b\w+_per_\w+", cited):
            source = (PROJECT_DIR / "benchmarks" / f"{command[1]}.py").read_text(encoding="utf-8")
            assert f'"{name}"' in source, cited


def test_production_command_is_the_procfile_command_with_proxy_headers() -> None:
    (block,) = blocks(SCALING, role="processes")
    line = block.text.replace("\\\n", " ").replace(".venv/bin/", "").replace(" --proxy-headers", "")
    procfile = (PROJECT_DIR / "mahavishnu_site" / "serve" / "Procfile").read_text(encoding="utf-8")
    assert f"web_processes: exec {' '.join(line.split()[1:])}\n" in procfile
