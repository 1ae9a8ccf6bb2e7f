"""The stages of `source_report`: find the files, measure them in three parallel stages, write a report.

A stage may run more than once, so each of them is idempotent. Measuring changes nothing. The report is always written
to the same path, and either completely or not at all.
"""

from __future__ import annotations

import ast
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from demonstrations.source_files import TooManyFiles, python_files
from orchestration.sdk import Context, StageFailed, stage

TITLE: Final = "# Python source report"

_LISTED: Final = 10
_BRANCHES: Final = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.With, ast.AsyncWith, ast.IfExp)


@stage
def find_files(ctx: Context, inputs: dict[str, Any]) -> dict[str, Any]:
    """Walk the tree."""
    root = Path(inputs["path"]).expanduser().absolute()
    if not root.is_dir():
        raise StageFailed(f"{root} is not a folder on this worker's machine", may_retry=False)
    try:
        paths = python_files(root)
    except TooManyFiles as error:
        raise StageFailed(str(error), may_retry=False) from error
    if not paths:
        raise StageFailed(f"No Python file found below {root}", may_retry=False)
    ctx.log(f"{len(paths)} Python files below {root}")
    return {"root": str(root), "paths": paths}


@stage(timeout_seconds=300)
def count_lines(ctx: Context, inputs: dict[str, Any]) -> dict[str, Any]:
    """Count lines of code, of comments and blank ones."""
    kinds: Counter[str] = Counter()
    lines_of: Counter[str] = Counter()
    for path, text in _files(ctx):
        lines = [line.strip() for line in text.splitlines()]
        lines_of[path] = len(lines)
        kinds.update("blank" if not line else "comment" if line.startswith("#") else "code" for line in lines)
    return {
        "files": len(lines_of),
        "lines": lines_of.total(),
        **{kind: kinds[kind] for kind in ("code", "comment", "blank")},
        "longest": lines_of.most_common(_LISTED),
    }


@stage(timeout_seconds=300)
def measure_functions(ctx: Context, inputs: dict[str, Any]) -> dict[str, Any]:
    """Parse each file, and measure the length and the branches of its functions."""
    branches_of: Counter[str] = Counter()
    lines_of: Counter[str] = Counter()
    classes = documented = 0
    broken: list[str] = []
    for path, text in _files(ctx):
        tree = _parsed(text)
        if tree is None:
            broken.append(path)
            continue
        for node in ast.walk(tree):
            classes += isinstance(node, ast.ClassDef)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{path}:{node.lineno} {node.name}"
                lines_of[name] = (node.end_lineno or node.lineno) - node.lineno + 1
                branches_of[name] = 1 + sum(isinstance(each, _BRANCHES) for each in ast.walk(node))
                documented += ast.get_docstring(node) is not None
    return {
        "functions": len(lines_of),
        "classes": classes,
        "documented": documented,
        "most_branched": branches_of.most_common(_LISTED),
        "longest": lines_of.most_common(_LISTED),
        "unparsable": broken[:_LISTED],
    }


@stage(timeout_seconds=300)
def follow_imports(ctx: Context, inputs: dict[str, Any]) -> dict[str, Any]:
    """Parse each file, and count the packages that it imports."""
    packages: Counter[str] = Counter()
    for _, text in _files(ctx):
        if (tree := _parsed(text)) is not None:
            packages.update(sorted({name.partition(".")[0] for node in ast.walk(tree) for name in _imported(node)}))
    return {"packages": len(packages), "most_imported": packages.most_common(_LISTED)}


@stage
def write_report(ctx: Context, inputs: dict[str, Any]) -> dict[str, Any]:
    """Write the results of the other stages to a file."""
    given = inputs["report"]
    target = Path(given) if given else Path(tempfile.gettempdir()) / f"mahavishnu-report-{ctx.workflow_id}.md"
    target = target.expanduser().absolute()
    if target.exists() and not target.read_bytes().startswith(TITLE.encode()):
        raise StageFailed(f"{target} exists and is not a report: it is not replaced", may_retry=False)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        unfinished.write_text(_report(dict(ctx.results)), encoding="utf-8")
        unfinished.replace(target)
    except OSError as error:
        raise StageFailed(f"Cannot write {target}: {error.strerror}") from error
    lines, functions = ctx.results["count_lines"], ctx.results["measure_functions"]
    ctx.log(f"The report is {target}")
    return {
        "report": str(target),
        "files": lines["files"],
        "lines": lines["lines"],
        "functions": functions["functions"],
    }


def _files(ctx: Context) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each file. Report progress, and stop if the run is cancelled."""
    found = ctx.results["find_files"]
    root, paths = Path(found["root"]), found["paths"]
    for number, path in enumerate(paths, start=1):
        ctx.raise_if_cancelled()
        try:
            text = (root / path).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue  # Deleted since it was found.
        yield path, text
        ctx.progress(number / len(paths), path)


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return None


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module


def _report(results: dict[str, Any]) -> str:
    lines, functions, imports = (results[name] for name in ("count_lines", "measure_functions", "follow_imports"))
    parts = [
        TITLE,
        f"{results['find_files']['root']}: {lines['files']} files, {lines['lines']} lines "
        f"({lines['code']} of code, {lines['comment']} of comments, {lines['blank']} blank), "
        f"{functions['classes']} classes, {functions['functions']} functions ({functions['documented']} documented), "
        f"{imports['packages']} packages imported.",
        _table("Longest files", "lines", lines["longest"]),
        _table("Longest functions", "lines", functions["longest"]),
        _table("Most branched functions", "branches", functions["most_branched"]),
        _table("Most imported packages", "files", imports["most_imported"]),
    ]
    if functions["unparsable"]:
        parts.append("## Not Python\n\n" + "\n".join(f"- {path}" for path in functions["unparsable"]))
    return "\n\n".join(parts) + "\n"


def _table(title: str, unit: str, rows: list[tuple[str, int]]) -> str:
    body = "\n".join(f"| {count} | {name} |" for name, count in rows)
    return f"## {title}\n\n| {unit} | |\n|---:|---|\n{body}"
