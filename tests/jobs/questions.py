"""Workflows whose stages wait."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec

from orchestration.sdk import (
    AnswerTimeout,
    Context,
    SignalTimeout,
    ask,
    parallel,
    sleep,
    stage,
    wait_for_signal,
    workflow,
)
from tests.jobs.agents import _wait, _write


@dataclass
class Approval:
    """Whether to deploy."""

    approved: bool
    comment: str = ""


class Budget(msgspec.Struct):
    """How much may be spent."""

    amount: int


class Parcel(msgspec.Struct):
    """How something is sent."""

    carrier: Annotated[Literal["post", "pigeon"], msgspec.Meta(description="Who carries it.")]
    count: Annotated[int, msgspec.Meta(ge=1)]
    weight_kg: float
    sizes: list[int]
    is_gift: bool = False
    note: str = ""


class Payment(TypedDict):
    """What was paid."""

    amount: int


@stage
def build(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Return an image."""
    return {"image": f"app:{inputs.get('version', 1)}", "tags": ["a", "b"]}


@stage
def deploy(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Return what was answered, and by whom."""
    _write(inputs, "deploy")
    answer = ctx.answers["approve"]
    approval = ctx.results.get_as("approve", Approval)
    return {"approved": approval.approved, "comment": approval.comment, "by": answer.by, "expired": answer.is_expired}


@stage
def conclude_answer(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Return the outputs of all stages."""
    return dict(ctx.results)


approve = ask(
    "approve",
    Approval,
    title="Deploy {build[image]} for {prompt}?",
    timeout_seconds=86400,
    on_timeout=Approval(approved=False),
    to=["group:ops"],
)


@workflow()
def deployment(prompt: str, **params: Any) -> Any:
    return [build, approve, deploy]


@workflow()
def open_question(prompt: str, **params: Any) -> Any:
    return [ask("approve", Approval), build]


@workflow()
def unanswered(prompt: str, *, title: str = "Continue?", timeout_seconds: float | None = 60, **params: Any) -> Any:
    return [build, ask("go", Budget, title=title, timeout_seconds=timeout_seconds)]


@workflow()
def parcel(prompt: str) -> Any:
    return [ask("send", Parcel, title="How is it sent?"), conclude_answer]


@workflow()
def signalled(prompt: str, **params: Any) -> Any:
    return [wait_for_signal("paid", Payment, timeout_seconds=60, on_timeout={"amount": 0})]


@workflow()
def nap(prompt: str, *, seconds: float = 3600, **params: Any) -> Any:
    return [sleep(seconds=seconds), build]


@workflow()
def two_questions(prompt: str, **params: Any) -> Any:
    return [parallel(ask("first", Budget), ask("second", Budget)), build]


@stage
def charge(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Order once, and wait for two payments."""
    order = ctx.step("order", _order, inputs.get("journal"))
    try:
        first = ctx.wait_for("paid", Budget, timeout_seconds=inputs.get("timeout_seconds"))
    except SignalTimeout as error:
        return str(error)
    second = ctx.wait_for("paid")
    return {"order": order, "first": first.amount, "second": second, "attempt": ctx.attempt}


def _order(journal: str | None) -> int:
    _write({} if journal is None else {"journal": journal}, "order")
    return 7


@stage
async def charge_in_coroutine(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Wait for a payment on an event loop."""
    return ctx.wait_for("paid")


@workflow()
def payments(prompt: str, *, timeout_seconds: float | None = None, **params: Any) -> Any:
    return [charge]


@workflow()
def payment_in_coroutine(prompt: str) -> Any:
    return [charge_in_coroutine]


@stage
def ask_inside(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Ask for a number, and then for an approval."""
    size = ctx.ask("size", int, title="How large is {it}?", to=["user:ada"])
    try:
        go = ctx.ask("go", Approval, title="Go?", timeout_seconds=60)
    except AnswerTimeout as error:
        return {"size": size, "error": str(error)}
    return {"size": size, "approved": go.approved, "attempt": ctx.attempt}


@stage
def ask_again(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Ask twice under one name."""
    return ctx.ask("size", int) + ctx.ask("size", int)


@workflow()
def asks_inside(prompt: str) -> Any:
    return [ask_inside]


@workflow()
def asks_twice(prompt: str) -> Any:
    return [ask_again]


@stage
def ship(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Order, wait for a payment, book it, and wait for the gate."""
    ctx.step("order", _order, inputs["journal"])
    payment = ctx.wait_for("paid", Budget)
    ctx.step("book", _book, inputs["journal"], payment.amount)
    _write(inputs, f"ships {ctx.attempt}")
    _wait(inputs)
    return {"amount": payment.amount, "attempt": ctx.attempt}


def _book(journal: str, amount: int) -> None:
    _write({"journal": journal}, f"book {amount}")


@workflow()
def shipment(prompt: str, **params: Any) -> Any:
    return [ship]


@workflow(adapter="llamaindex", pool="jobs")
def flow_with_questions(prompt: str, *, journal: str) -> Any:
    from tests.jobs.asking_flows import DeployFlow  # Few workers need the package.

    return DeployFlow(Path(journal))
