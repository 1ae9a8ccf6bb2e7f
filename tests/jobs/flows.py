"""Workflows of the adapter `llamaindex`."""

from __future__ import annotations

import asyncio
from typing import Any

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent
from workflows.retry_policy import retry_policy, stop_after_attempt, wait_fixed

from orchestration.sdk import workflow


class MockModel:
    """A language model that answers at once, and the same every time."""

    async def complete(self, prompt: str) -> str:
        return f"An answer to {prompt}"


class Outlined(Event):
    outline: str


class Written(Event):
    text: str


class Rejected(Event):
    text: str


class Refused(Event):
    pass


class WriterFlow(Workflow):
    """A sequence with a loop: the first draft is rejected. One step is never needed."""

    def __init__(self, *, model: MockModel, **options: Any) -> None:
        super().__init__(**options)
        self.model = model

    @step
    async def outline(self, ev: StartEvent) -> Outlined:
        return Outlined(outline=await self.model.complete(ev.prompt))

    @step
    async def write(self, ctx: Context, ev: Outlined | Rejected) -> Written:
        drafts = await ctx.store.get("drafts", default=0) + 1
        await ctx.store.set("drafts", drafts)
        return Written(text=f"draft {drafts}")

    @step
    async def review(self, ctx: Context, ev: Written) -> Rejected | Refused | StopEvent:
        if ev.text == "draft 1":
            ctx.write_event_to_stream(Rejected(text=ev.text))
            return Rejected(text=ev.text)
        return StopEvent(result={"text": ev.text})

    @step
    async def apologise(self, ev: Refused) -> StopEvent:
        return StopEvent(result="Sorry")


@workflow(adapter="llamaindex", pool="jobs")
def writer(prompt: str) -> Any:
    return WriterFlow(model=MockModel(), timeout=30)


class Part(Event):
    number: int


class Done(Event):
    number: int


class Summed(StopEvent):
    total: int


class FanOutFlow(Workflow):
    """A step that sends three events, and a step that waits for the results of all three."""

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> Part | None:
        for number in range(3):
            ctx.send_event(Part(number=number))
        return None

    @step(num_workers=2)
    async def work(self, ev: Part) -> Done:
        return Done(number=ev.number)

    @step
    async def gather(self, ctx: Context, ev: Done) -> Summed | None:
        done = ctx.collect_events(ev, [Done] * 3)
        return None if done is None else Summed(total=sum(each.number for each in done))


@workflow(adapter="llamaindex", pool="jobs")
def fan_out(prompt: str) -> Any:
    return FanOutFlow


class UnsteadyFlow(Workflow):
    """A step that fails once and is retried by the library, and one that fails the run."""

    @step(retry_policy=retry_policy(wait=wait_fixed(0.01), stop=stop_after_attempt(3)))
    async def stumble(self, ctx: Context, ev: StartEvent) -> Part:
        tries = await ctx.store.get("tries", default=0) + 1
        await ctx.store.set("tries", tries)
        if tries < 2:
            raise ValueError("not yet")
        return Part(number=tries)

    @step
    async def fall(self, ev: Part) -> StopEvent:
        raise ValueError("It fell")


@workflow(adapter="llamaindex", pool="jobs")
def unsteady(prompt: str) -> Any:
    return UnsteadyFlow


class TwoSpeedFlow(Workflow):
    """A quick step, and a slow one after it."""

    @step
    async def quick(self, ev: StartEvent) -> Part:
        return Part(number=1)

    @step
    async def slow(self, ev: Part) -> StopEvent:
        await asyncio.sleep(0.5)
        return StopEvent()


@workflow(adapter="llamaindex", pool="jobs")
def two_speeds(prompt: str) -> Any:
    return TwoSpeedFlow


class WaitingFlow(Workflow):
    @step
    async def wait(self, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(600)
        return StopEvent()


@workflow(adapter="llamaindex", pool="jobs")
def waiting_flow(prompt: str, *, timeout: float | None = None) -> Any:
    return WaitingFlow(timeout=timeout)


class BrokenFlow(Workflow):
    @step
    async def lose(self, ev: StartEvent) -> Part:
        return Part(number=1)

    @step
    async def never(self, ev: Done) -> StopEvent:
        return StopEvent()


@workflow(adapter="llamaindex", pool="jobs")
def broken(prompt: str) -> Any:
    return BrokenFlow


@workflow(adapter="llamaindex", pool="jobs")
def no_flow(prompt: str) -> Any:
    return ["a list"]


current_flow: Any = FanOutFlow


@workflow(adapter="llamaindex", pool="jobs")
def changing(prompt: str) -> Any:
    """Return the workflow that a test sets, as if the worker had other code than the process that starts the run."""
    return current_flow
