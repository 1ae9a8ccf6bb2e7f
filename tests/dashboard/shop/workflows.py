"""Workflows with a parameter of each kind, and with names of parameters that JavaScript knows too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from orchestration.sdk import Secret, stage, workflow


@stage
def pack(ctx: Any, inputs: dict[str, Any]) -> None:
    """Pack it."""


@workflow(name="build_car")
def build_car(
    prompt: str, *, constructor: str, weight_kg: float = 1.0, sizes: list[int] | None = None, **others: Any
) -> Any:
    """Build a car."""
    return [pack]


@workflow(name="ship_order")
def ship_order(
    prompt: str,
    *,
    order: Annotated[int, msgspec.Meta(ge=1, le=99)],
    address: str,
    carrier: Literal["post", "pigeon"] = "post",
    is_gift: bool = False,
    weight_kg: float | None = None,
    label: Path = Path("label.pdf"),
    items: list[str] | None = None,
) -> Any:
    """Ship an order with `carrier`.

    Args:
        prompt: What it is for.
        order: The number of the order.
        address: Where it goes.
        carrier: Who carries it.
        is_gift: Whether it is wrapped.
        weight_kg: How heavy it is.
        label: Where its label is written.
        items: What is in it.
    """
    if address == "nowhere":
        raise ValueError("no carrier goes there")
    return [pack]


@workflow(name="pay_carrier")
def pay_carrier(prompt: str, *, order: int, api_key: Annotated[str, Secret()]) -> Any:
    """Pay a carrier."""
    return [pack]
