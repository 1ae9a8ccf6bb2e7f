"""Workflows whose parameters are the fields of a class."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

import attrs
import msgspec
from msgspec import Meta, Struct
from pydantic import BaseModel, Field, SecretStr, model_validator

from orchestration.sdk import Context, Secret, stage, workflow


@dataclass
class Plain:
    """What to load.

    Args:
        days: How many days.
    """

    days: Annotated[int, Meta(ge=1)]
    region: str = "eu"
    tags: set[str] = field(default_factory=lambda: {"b", "a"})
    api_key: Annotated[str, Secret()] = ""

    def __post_init__(self) -> None:
        if self.region == "mars":
            raise ValueError(f"no days on {self.region}")


class Renamed(Struct, rename="camel", forbid_unknown_fields=True):
    first_day: int
    run_id: uuid.UUID = msgspec.field(default_factory=uuid.uuid4)


class Typed(TypedDict):
    days: int


@attrs.define
class WithAttrs:
    days: int = 3


class Model(BaseModel):
    days: int = Field(ge=1, description="How many days.")
    region: str = "eu"
    token: SecretStr | None = None
    tags: set[str] = Field(default_factory=set)

    @model_validator(mode="after")
    def check(self) -> Model:
        if self.region == "mars":
            raise ValueError("no days on mars")
        return self


@stage
def show_plain(ctx: Context, inputs: Plain) -> Plain:
    return inputs


@stage
def show_model(ctx: Context, inputs: Model, days: int) -> list[Any]:
    token = "" if inputs.token is None else inputs.token.get_secret_value()
    return [type(inputs).__name__, inputs.days == days, len(token)]


@workflow(inputs=Plain)
def of_dataclass(prompt: str, inputs: Plain) -> Any:
    assert isinstance(inputs, Plain)
    return [show_plain]


@workflow(inputs=Model)
def of_model(prompt: str, given: Model) -> Any:
    assert isinstance(given, Model)
    return [show_model]


@workflow(inputs=WithAttrs)
def of_attrs(prompt: str) -> Any:
    return [count_days]


@workflow(inputs=Typed)
def of_typed_dict(prompt: str) -> Any:
    return [count_days]


@stage
def count_days(ctx: Context, days: int) -> int:
    return days


@stage
def show_renamed(ctx: Context, inputs: Renamed) -> int:
    return inputs.first_day


@workflow(inputs=Renamed)
def of_renamed(prompt: str, inputs: Renamed) -> Any:
    return [show_renamed]
