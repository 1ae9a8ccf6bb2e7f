"""What a run was started with: every stage, its options and its place, frozen and stored with the run.

A later change of the code changes what a stage's function does, and nothing of what was planned when the run started.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

MAX_ATTEMPTS: Final = 1000
MAX_SECONDS: Final = 365 * 86400.0


class InvalidDefinition(Exception):
    """A workflow or a stage is defined in a way that cannot be run; `str()` says what was expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """How often a stage that failed is tried, and how long to wait before each further attempt.

    Attributes:
        max_attempts: How often in all; 1 means once. Attempts lost with their worker are not counted here.
        backoff_seconds: The wait before the second attempt; it doubles each time, and up to half of it is taken off
            at random so that many failures do not come back together.
        max_backoff_seconds: What the wait does not grow beyond.
    """

    max_attempts: int = 1
    backoff_seconds: float = 1.0
    max_backoff_seconds: float = 300.0

    def __post_init__(self) -> None:
        if not _is_whole(self.max_attempts) or not 1 <= self.max_attempts <= MAX_ATTEMPTS:
            raise InvalidDefinition(
                f"max_attempts={self.max_attempts!r}: expected a whole number from 1 to {MAX_ATTEMPTS}"
            )
        check_seconds("backoff_seconds", self.backoff_seconds, may_be_zero=True)
        check_seconds("max_backoff_seconds", self.max_backoff_seconds, may_be_zero=True)

    def wait_seconds(self, attempt: int, *, jitter: float) -> float:
        """How long to wait after the attempt of this number (the first is 1) failed; `jitter` is from 0 to 1."""
        wait = min(self.backoff_seconds * 2.0 ** min(attempt - 1, 64), self.max_backoff_seconds)
        return wait * (1 - jitter / 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePlan:
    """One stage of a run.

    Attributes:
        name: Unlike any other of the run.
        step: Stages of one step run side by side; a step begins when all stages of the one before it are completed.
        call: What the adapter runs, as the adapter writes it; for `python` the function, as `package.module:name`.
        options: Whatever else the adapter wants to know when it runs the stage; JSON.
        retries: When an attempt fails.
        timeout_seconds: How long one attempt may run before its process is killed; None for as long as it takes.
        hosted: The stage is never queued: another stage of its step runs it and reports on it.
    """

    name: str
    step: int
    call: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    retries: Retry = field(default_factory=Retry)
    timeout_seconds: float | None = None
    hosted: bool = False

    def __post_init__(self) -> None:
        if self.timeout_seconds is not None:
            check_seconds("timeout_seconds", self.timeout_seconds)

    def to_json(self) -> dict[str, Any]:
        """Return what is stored."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote, of this release or of one before it."""
        fields = {key: value for key, value in stored.items() if key in cls.__dataclass_fields__}
        return cls(**{**fields, "retries": Retry(**stored.get("retries", {}))})


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A whole run, as an adapter planned it.

    Attributes:
        name: The definition's.
        adapter: Which adapter runs the stages.
        stages: In order: by step, then as they were written.
        timeout_seconds: How long the run may take from its start; None for as long as it takes.
    """

    name: str
    adapter: str
    stages: tuple[StagePlan, ...]
    timeout_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.timeout_seconds is not None:
            check_seconds("timeout_seconds", self.timeout_seconds)
        if not any(not stage.hosted for stage in self.stages):
            raise InvalidDefinition(f"The workflow {self.name} has no stage: expected at least one")
        names = Counter(stage.name for stage in self.stages)
        if twice := sorted(name for name, count in names.items() if count > 1):
            raise InvalidDefinition(
                f"The workflow {self.name} has several stages named {', '.join(twice)}: expected each name once"
            )

    def to_json(self) -> dict[str, Any]:
        """Return what is stored with the run; each stage is stored with its own row."""
        return {"name": self.name, "timeout_seconds": self.timeout_seconds}


def check_seconds(name: str, value: object, *, may_be_zero: bool = False) -> None:
    """Let a duration pass.

    Raises:
        InvalidDefinition: if it is none.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= MAX_SECONDS or (value == 0 and not may_be_zero):  # type: ignore[operator]
        least = "from 0" if may_be_zero else "above 0"
        raise InvalidDefinition(f"{name}={value!r}: expected a number of seconds {least} to {MAX_SECONDS:.0f}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
