"""The pages of the cookbook have the same parts, and their commands exist."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, get_commands, load_command_class

from tests.cookbook.recipes import Recipe, recipes
from tests.docs.markdown import headings, links, page

SECTIONS = ["Code", "Run it", "When a process dies", "What to look at"]


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.path.stem)
def test_page_has_its_parts(recipe: Recipe) -> None:
    title, *sections = headings(recipe.path)
    assert title.startswith("Cookbook: ")
    assert sections == SECTIONS
    assert f"export MAHAVISHNU_APPS={recipe.package}".split() in recipe.lines()
    assert f"cookbook/{recipe.path.name}" in links(page("docs/cookbook.md"))


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.path.stem)
def test_commands_of_page_accept_their_arguments(recipe: Recipe) -> None:
    commands = [line[1:] for line in recipe.lines() if line and line[0] == "mahavishnu"]
    assert commands
    for name, *arguments in commands:
        try:
            load_command_class(get_commands()[name], name).create_parser("manage.py", name).parse_args(arguments)
        except CommandError as error:
            pytest.fail(f"{recipe.path.name}: {name} {arguments}: {error}")
