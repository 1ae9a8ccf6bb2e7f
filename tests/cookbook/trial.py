"""One run of a job, started as its page says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.cookbook.installation import ADDRESS, Installation
from tests.cookbook.recipes import Recipe, recipes
from tests.cookbook.run_watch import RunWatch, watch

RECIPES: Final = {recipe.path.stem: recipe for recipe in recipes()}
"""The pages, by name."""

START: Final = f"{ADDRESS}/api/v1/workflows"
HOUR: Final = "2026-02-10T20"


@dataclass(kw_only=True)
class Trial:
    """One run of a job.

    Attributes:
        recipe: The page.
        installation: Where it runs.
        folder: The folder that the page has as `$PWD`.
        workflow_id: The run.
        watch: What a client receives of it.
        kill: Kills something in the middle of the run.
    """

    recipe: Recipe
    installation: Installation
    folder: Path
    workflow_id: str
    watch: RunWatch
    kill: Callable[[], None] = lambda: None

    async def middle(self) -> None:
        """Kill in another thread, and wait until what was killed runs again."""
        await asyncio.to_thread(self.kill)

    async def run_line(self, *words: str, **replaced: str) -> str:
        """Run the command line of the page that has these words, about this run, and return its output."""
        line = self.recipe.line(*words)
        names = {"wf_1": self.workflow_id, "payment-12": f"payment-{self.workflow_id}"}
        names |= {f"${name}": value for name, value in replaced.items()}
        return await asyncio.to_thread(self.installation.run_line, line, names)

    def stored(self) -> dict[str, Any]:
        return self.installation.engine.workflow(self.workflow_id)

    def output(self) -> Any:
        """Return the output of a run that is completed."""
        stored = self.stored()
        assert stored["status"] == "completed", stored
        return stored["result"]["final_output"]

    def lines(self, name: str) -> list[str]:
        """Return the lines of a file, sorted: what was done, and how often."""
        return sorted((self.folder / name).read_text().splitlines())


def start(installation: Installation, page: str, folder: Path, *arguments: str, name: str = "run_workflow") -> str:
    """Start a run as a page says, and return its id.

    Args:
        installation: Where it runs.
        page: The name of the page.
        folder: The folder that the page has as `$PWD`.
        arguments: Additional arguments.
        name: The workflow; by default the first one that the page starts.
    """
    recipe = RECIPES[page]
    # Keys last as long as their runs, and the tests share the installation.
    unique = {"-$COMMAND": folder.name, "-$HOUR": folder.name, "delivery-81": folder.name}
    replaced = {"$PWD": str(folder), "/srv/shop": str(folder), **unique, "$HOUR": HOUR}
    if page != "webhook":
        return installation.run_line([*recipe.line("run_workflow", name), *arguments], replaced)
    # The shop calls twice.
    started = {installation.run_line(recipe.line(START), replaced) for _ in range(2)}
    (workflow_id,) = {json.loads(answer)["workflow_id"] for answer in started}
    return str(workflow_id)


@asynccontextmanager
async def begin(
    installation: Installation,
    page: str,
    folder: Path,
    *arguments: str,
    name: str = "run_workflow",
    kill: Callable[[], None] = lambda: None,
) -> AsyncIterator[Trial]:
    """Start a run as `start` does, and follow it."""
    workflow_id = await asyncio.to_thread(partial(start, installation, page, folder, *arguments, name=name))
    async with watch(installation.engine, workflow_id) as run_watch:
        yield Trial(
            recipe=RECIPES[page],
            installation=installation,
            folder=folder,
            workflow_id=workflow_id,
            watch=run_watch,
            kill=kill,
        )
