"""Links, make targets, management commands and modules in the documents exist."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
from django.core.management import CommandError, get_commands, load_command_class

from tests.docs.markdown import PROJECT_DIR, anchors, blocks, code_spans, links, page, pages, prose, shell_lines, table

PACKAGES = ("mahavishnu_site", "realtime", "orchestration")
PRODUCT = (*PACKAGES, "demonstrations")
MAX_COLUMNS = 120
"""Length of a line of prose; ruff checks that of the code."""

# Every Django application has these.
UNREMARKABLE = {"apps", "migrations"}


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_document_links_exist(path: Path) -> None:
    for link in links(path):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert target.is_relative_to(PROJECT_DIR), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_lines_of_documents_fit_the_columns(path: Path) -> None:
    # Not in tables and fenced blocks, which cannot be wrapped, or in comments with code.
    lines = ((number, line) for number, line in prose(path) if not line.startswith(("|", "<!--")))
    without_urls = ((number, re.sub(r"https?://\S+", "", line)) for number, line in lines)
    assert [f"{path.name}:{number}" for number, line in without_urls if len(line) > MAX_COLUMNS] == []


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_documented_project_paths_exist(path: Path) -> None:
    roots = "|".join((*PACKAGES, "tests", "docs", "demonstrations", "deploy", r"\.ci"))
    paths = [span for span in code_spans(path) if re.fullmatch(rf"(?:{roots})/[\w./-]+", span)]
    assert [name for name in paths if not (PROJECT_DIR / name).exists()] == []


def documented_commands(path: Path) -> set[str]:
    """Return the commands in a page's shell blocks, and those that fill a code span in its prose."""
    return {*shell_lines(path), *(span for span in code_spans(path) if span.startswith(("make ", "manage.py ")))}


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_documented_make_targets_exist(path: Path) -> None:
    for line in documented_commands(path):
        if line.startswith("make "):
            arguments = shlex.split(line)[1:]
            subprocess.run(["make", "--dry-run", *arguments], cwd=PROJECT_DIR, check=True, capture_output=True)


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_documented_management_commands_accept_their_arguments(path: Path) -> None:
    known = get_commands()
    for line in documented_commands(path):
        if (match := re.search(r"(?:^|[ /])manage\.py (\w+)(.*)", line)) is None:
            continue
        name, arguments = match[1], shlex.split(match[2])
        assert name in known, line
        command = load_command_class(known[name], name)
        try:
            command.create_parser("manage.py", name).parse_args(arguments)
        except CommandError as error:
            pytest.fail(f"{line}: {error}")


def modules_in(folder: Path) -> set[str]:
    """Return the names of the modules and folders directly inside a folder, without the unremarkable ones."""
    names = {
        path.relative_to(folder).parts[0]
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.name != "__init__.py"
    }
    return {name.removesuffix(".py") for name in names} - UNREMARKABLE


@pytest.mark.parametrize("package", PACKAGES)
def test_map_lists_every_module(package: str) -> None:
    rows = table(page("docs/architecture.md"), first=package)
    mapped = {name: set(filter(None, row["Modules"].split(", "))) for row in rows for name in row[package].split(", ")}
    folder = PROJECT_DIR / package
    assert set(mapped) == modules_in(folder)
    for name, modules in mapped.items():
        has_modules = (folder / name).is_dir() and any((folder / name).rglob("*.py"))
        assert modules == (modules_in(folder / name) if has_modules else set()), name


@pytest.mark.parametrize("package", ["realtime", "orchestration"])
def test_documented_layers_are_the_import_contracts(package: str) -> None:
    (shown,) = blocks(page("docs/architecture.md"), role=package)
    settings = tomllib.loads((PROJECT_DIR / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract.get("containers") == [package])
    assert shown.text.splitlines() == layers


def test_every_management_command_is_documented() -> None:
    commands = {name for name, application in get_commands().items() if application in PACKAGES}
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages())
    assert {name for name in commands if f"manage.py {name}" not in text} == set()


def has_import_in_function(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return any(isinstance(node, ast.Import | ast.ImportFrom) for function in functions for node in ast.walk(function))


def test_contributing_lists_the_modules_with_imports_inside_functions() -> None:
    found = [
        str(path.relative_to(PROJECT_DIR))
        for package in PRODUCT
        for path in PROJECT_DIR.glob(f"{package}/**/*.py")
        if has_import_in_function(path)
    ]
    rows = table(page("CONTRIBUTING.md"), first="Module with such an import")
    assert [row["Module with such an import"] for row in rows] == sorted(found)
