"""Workflows whose stages name their inputs and the type of their output."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta

from orchestration.sdk import Context, stage, workflow


class Kind(Enum):
    DAILY = "daily"


@dataclass
class Rows:
    region: str
    day: datetime.date
    price: Decimal
    tags: set[str]


@stage
def load(ctx: Context, region: Literal["eu", "us"], day: datetime.date, kind: Kind, limit: int = 3) -> Rows:
    assert isinstance(day, datetime.date) and kind is Kind.DAILY
    return Rows(region, day, Decimal("1.50"), {"b", "a"})


@stage
async def index(ctx: Context, *, prompt: str, folder: Path) -> Path:
    rows = ctx.results.get_as("load", Rows)
    assert isinstance(rows.price, Decimal)
    return folder / f"{prompt}-{rows.region}-{rows.day.year}-{len(rows.tags)}"


@workflow()
def typed_stages(
    prompt: str,
    *,
    day: datetime.date,
    folder: Path,
    region: Literal["eu", "us"] = "eu",
    kind: Kind = Kind.DAILY,
) -> Any:
    return [load, index]


@stage
def takes_unknown(ctx: Context, regoin: str) -> None: ...


@workflow()
def misspelled(prompt: str, *, region: str = "eu") -> Any:
    return [takes_unknown]


@stage
def takes_bounded(ctx: Context, days: Annotated[int, Meta(ge=1)]) -> int:
    return days


@workflow()
def unbounded(prompt: str, *, days: int = 1) -> Any:
    return [takes_bounded]


@workflow()
def open_to_all(prompt: str, **params: Any) -> Any:
    return [takes_bounded]


@stage
def returns_other(ctx: Context) -> list[UUID]:
    values: Any = ["no UUID"]
    return values  # type: ignore[no-any-return]


@workflow()
def wrong_output(prompt: str) -> Any:
    return [returns_other]


@dataclass
class Inputs:
    days: Annotated[int, Meta(ge=1)]
    region: str = "eu"


@stage
def takes_object(ctx: Context, inputs: Inputs) -> int:
    return inputs.days


@workflow()
def whole_object(prompt: str, *, days: int, more: bool = False) -> Any:
    return [takes_object]
