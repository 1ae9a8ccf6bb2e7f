"""Workflows of the adapter `llamaindex` that ask people."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated, Any, ClassVar

from workflows import Context, Workflow, step
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent

from orchestration.sdk import Secret, workflow


class Named(Event):
    pass


class HumanInputFlow(Workflow):
    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent()

    @step
    async def answer(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent()


@workflow(adapter="llamaindex", pool="jobs")
def asking(prompt: str) -> Any:
    return HumanInputFlow


class Approval(HumanResponseEvent):
    approved: bool
    comment: str = ""


class ApprovalRequired(InputRequiredEvent):
    response_event: ClassVar[type[HumanResponseEvent]] = Approval
    message: str


class DeployFlow(Workflow):
    """A step that asks for a name, and one that waits for an approval. The first steps write what they do to a file."""

    def __init__(self, journal: Path) -> None:
        super().__init__(timeout=30)
        self.journal = journal

    def write(self, line: str) -> None:
        with self.journal.open("a") as journal:
            journal.write(line + "\n")

    @step
    async def build(self, ctx: Context, ev: StartEvent) -> InputRequiredEvent:
        self.write("build")
        await ctx.store.set("image", "app:7")
        return InputRequiredEvent(**{"prefix": "Who deploys?"})

    @step
    async def named(self, ctx: Context, ev: HumanResponseEvent) -> Named | None:
        if isinstance(ev, Approval):
            return None
        self.write(f"named {ev.response}")
        await ctx.store.set("name", ev.response)
        return Named()

    @step
    async def deploy(self, ctx: Context, ev: Named) -> StopEvent:
        image, name = await ctx.store.get("image"), await ctx.store.get("name")
        question = ApprovalRequired(message=f"May {name} deploy {image}?")
        approval = await ctx.wait_for_event(Approval, waiter_event=question, timeout=None)
        return StopEvent(result={"image": image, "name": name, "approved": approval.approved})


@workflow(adapter="llamaindex", pool="jobs")
def deploys(prompt: str, *, journal: str) -> Any:
    return DeployFlow(Path(journal))


class OtherResponse(HumanResponseEvent):
    text: str


class AmbiguousFlow(Workflow):
    """A question that two events may answer."""

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent()

    @step
    async def answer(self, ev: Approval | OtherResponse) -> StopEvent:
        return StopEvent()


@workflow(adapter="llamaindex", pool="jobs")
def ambiguous(prompt: str) -> Any:
    return AmbiguousFlow


class UnstorableFlow(Workflow):
    """A context that is not JSON."""

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> InputRequiredEvent:
        await ctx.store.set("lock", threading.Lock())
        return InputRequiredEvent()

    @step
    async def answer(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent()


@workflow(adapter="llamaindex", pool="jobs")
def unstorable(prompt: str) -> Any:
    return UnstorableFlow


class WaitingForEventFlow(Workflow):
    """A step that waits for an event for which it asks no person."""

    @step
    async def wait(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(Named, timeout=None)
        return StopEvent()


@workflow(adapter="llamaindex", pool="jobs")
def waits_for_event(prompt: str) -> Any:
    return WaitingForEventFlow


class HiddenResponseFlow(Workflow):
    """A question whose answer has a class that no other process finds."""

    class Hidden(HumanResponseEvent):
        text: str

    Hidden.__qualname__ = "make.<locals>.Hidden"

    @step
    async def ask(self, ev: StartEvent) -> InputRequiredEvent:
        return InputRequiredEvent()

    @step
    async def answer(self, ev: Hidden) -> StopEvent:
        return StopEvent()


@workflow(adapter="llamaindex", pool="jobs")
def hidden_response(prompt: str) -> Any:
    return HiddenResponseFlow


class KeyFlow(Workflow):
    """A workflow with a key: an attribute or, if `keeps` is true, in what is stored while it waits."""

    def __init__(self, api_key: str, *, keeps: bool) -> None:
        super().__init__(timeout=30)
        self.api_key = api_key
        self.keeps = keeps

    @step
    async def ask(self, ctx: Context, ev: StartEvent) -> InputRequiredEvent:
        if self.keeps:
            await ctx.store.set("api_key", self.api_key)
        return InputRequiredEvent()

    @step
    async def answer(self, ev: HumanResponseEvent) -> StopEvent:
        return StopEvent(result=len(self.api_key))


@workflow(adapter="llamaindex", pool="jobs")
def asking_with_a_key(prompt: str, *, api_key: Annotated[str, Secret()], keeps: bool = False) -> Any:
    return KeyFlow(api_key, keeps=keeps)
