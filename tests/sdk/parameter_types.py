"""Types of parameters, and a workflow's function with one parameter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, TypedDict

from msgspec import Struct

from orchestration.sdk.parameters import Parameters


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Size(NamedTuple):
    width: int
    height: int


@dataclass
class Options:
    depth: int
    names: tuple[str, ...] = ()


@dataclass
class Tags:
    tags: set[str]


class Tagged(Struct):
    tags: set[str]


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


@dataclass
class Picky:
    side: int

    def __post_init__(self) -> None:
        self.side = 1 // self.side


class Cat(Struct, tag_field="kind", tag="cat"):
    name: Options


class Dog(Struct, tag_field="kind", tag="dog"):
    name: Point


class Window(TypedDict, total=False):
    size: Size
    options: Options
    places: dict[str, Point]


class Hostile:
    """A default that cannot be copied or shown."""

    def __deepcopy__(self, memo: object) -> Any:
        raise RuntimeError("A lock cannot be copied")

    def __repr__(self) -> str:
        raise RuntimeError("It is closed")


class Own:
    """msgspec does not know this class."""


def parameters_with(annotation: Any, **default: Any) -> Parameters:
    """Return the parameters of a function with one parameter, `value`."""
    if default:

        def function(prompt: str, *, value: Any = default["default"]) -> None: ...
    else:

        def function(prompt: str, *, value: Any) -> None: ...  # type: ignore[misc]

    function.__annotations__["value"] = annotation
    return Parameters("demo", function)
