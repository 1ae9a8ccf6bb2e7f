"""What every document says of files, headings, commands and modules is so."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from django.core.management import CommandError, get_commands, load_command_class

from tests.docs.markdown import PROJECT_DIR, anchors, code_spans, links, page, pages, shell_lines, table

PACKAGES = ("mahavishnu_site", "realtime", "orchestration")
# What every Django application has, and nobody looks for.
UNREMARKABLE = {"__init__", "apps", "admin", "migrations"}


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for link in links(path):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert target.is_relative_to(PROJECT_DIR), link
        assert not anchor or anchor in anchors(target), link


def documented_commands(path: Path) -> set[str]:
    """The commands in the page's shell blocks and, where they stand alone between backticks, in its prose."""
    return {*shell_lines(path), *(span for span in code_spans(path) if span.startswith(("make ", "manage.py ")))}


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_every_make_target_exists(path: Path) -> None:
    for line in documented_commands(path):
        if line.startswith("make "):
            arguments = shlex.split(line)[1:]
            subprocess.run(["make", "--dry-run", *arguments], cwd=PROJECT_DIR, check=True, capture_output=True)


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_every_management_command_takes_what_it_is_given(path: Path) -> None:
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


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_is_in_the_map_and_every_one_in_the_map_exists(package: str) -> None:
    rows = table(page("docs/architecture.md"), first=package)
    mapped = [name for row in rows for name in row[package].split(", ")]
    folder = PROJECT_DIR / package
    found = {
        Path(path.relative_to(folder).parts[0]).stem
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert len(mapped) == len(set(mapped))
    assert set(mapped) == found - UNREMARKABLE


def test_every_management_command_of_ours_is_in_a_document() -> None:
    ours = {name for name, application in get_commands().items() if application in PACKAGES}
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages())
    assert {name for name in ours if f"manage.py {name}" not in text} == set()
