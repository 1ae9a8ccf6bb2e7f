"""A LlamaIndex workflow: choose some modules, ask a model about each, collect the answers.

The model needs no network: it answers with the first line of a module's docstring. Replace it with a real one.
"""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from demonstrations.source_files import python_files

MODULES = 8


class OfflineModel:
    """Answers a prompt that is the source text of a module."""

    async def complete(self, prompt: str) -> str:
        """Return the first line of the module's docstring."""
        await asyncio.sleep(0.05)
        try:
            docstring = ast.get_docstring(ast.parse(prompt)) or ""
        except SyntaxError:
            return "Not Python."
        return docstring.partition("\n")[0] or "No docstring."


class Module(Event):
    """A module to ask about."""

    path: str
    source: str


class Answer(Event):
    """The model's answer about a module."""

    path: str
    text: str


class SummaryFlow(Workflow):
    """Chooses modules, asks about them and collects the answers; each step appears as a stage."""

    def __init__(self, *, root: Path, model: OfflineModel, timeout: float | None = None) -> None:
        super().__init__(timeout=timeout)
        self.root = root
        self.model = model

    @step
    async def choose(self, ctx: Context, ev: StartEvent) -> Module | None:
        """Choose the largest modules."""
        paths = sorted(python_files(self.root), key=lambda path: (self.root / path).stat().st_size, reverse=True)
        chosen = paths[:MODULES]
        await ctx.store.set("chosen", len(chosen))
        for path in chosen:
            ctx.send_event(Module(path=path, source=(self.root / path).read_text(encoding="utf-8", errors="replace")))
        return None

    @step(num_workers=4)
    async def ask(self, ctx: Context, ev: Module) -> Answer:
        """Ask the model about one module; four of these run at a time."""
        answer = Answer(path=ev.path, text=await self.model.complete(ev.source))
        ctx.write_event_to_stream(answer)
        return answer

    @step
    async def collect(self, ctx: Context, ev: Answer) -> StopEvent | None:
        """Wait for all answers, and return them."""
        answers = ctx.collect_events(ev, [Answer] * await ctx.store.get("chosen"))
        return None if answers is None else StopEvent(result={each.path: each.text for each in answers})
