"""Numbers that somebody may set, each with the bounds that it must keep within: fields of a dataclass of limits."""

from __future__ import annotations

from dataclasses import field

KIB = 1024
MIB = 1024 * KIB


def bounded(default: float, *, minimum: float, maximum: float, help: str) -> float:
    """A dataclass field whose value must lie between `minimum` and `maximum`, both allowed."""
    return field(default=default, metadata={"minimum": minimum, "maximum": maximum, "help": help})


def counted(default: int, *, minimum: int, maximum: int, help: str) -> int:
    """The same as `bounded`, for whole numbers."""
    return field(default=default, metadata={"minimum": minimum, "maximum": maximum, "help": help})
