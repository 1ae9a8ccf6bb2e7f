"""The plan of a workflow: its stages with their steps and options, stored when the workflow starts.

A later change of the code changes the function of a stage, but not the plan of a workflow that has started.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self
from urllib.parse import quote

MAX_ATTEMPTS: Final = 1000
MAX_SECONDS: Final = 365 * 86400.0

MAX_EACH_NAME_LENGTH: Final = 100
"""Characters of the percent-encoded name of a stage with items, which the name of their channel contains. Their names
have a number in addition."""


class InvalidDefinition(Exception):
    """A workflow or a stage cannot run as it is defined. The message contains what was expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """How many attempts a stage has, and the wait before each retry.

    Attributes:
        max_attempts: Attempts in total; 1 means no retry. Attempts lost with their worker do not count.
        backoff_seconds: The wait before the second attempt. It doubles with each attempt. Up to half of it is
            subtracted at random, so that stages that failed together are not retried together.
        max_backoff_seconds: The longest wait.
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
        """Return the wait after a failed attempt. The first attempt is number 1; `jitter` is from 0 to 1."""
        wait = min(self.backoff_seconds * 2.0 ** min(attempt - 1, 64), self.max_backoff_seconds)
        return wait * (1 - jitter / 2)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a stage's function is called with besides its context and inputs; JSON.

    Attributes:
        positional: By position.
        named: By name.
    """

    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Each:
    """A stage that runs once for each value of a list.

    Attributes:
        of: The name of the stage whose output is the list.
        limit: How many items run at once at most; None for as many as the pool has slots.
        allow_failed: How many items may fail: a number, or a share below 1 of all. If more do, the run fails.
    """

    of: str
    limit: int | None = None
    allow_failed: float = 0

    def __post_init__(self) -> None:
        if self.limit is not None and (not _is_whole(self.limit) or self.limit < 1):
            raise InvalidDefinition(f"limit={self.limit!r}: expected a whole number from 1, or None")
        is_number = isinstance(self.allow_failed, int | float) and not isinstance(self.allow_failed, bool)
        is_valid = is_number and self.allow_failed >= 0 and (self.allow_failed < 1 or self.allow_failed % 1 == 0)
        if not is_valid:
            raise InvalidDefinition(
                f"allow_failed={self.allow_failed!r}: expected a whole number of items, or a share from 0 to below 1"
            )

    def max_failed(self, total: int) -> int:
        """Return how many of this many items may fail."""
        return int(self.allow_failed * total) if self.allow_failed < 1 else int(self.allow_failed)


@dataclass(frozen=True, kw_only=True, slots=True)
class WaitPlan:
    """What a stage waits for, without a slot of its pool.

    Attributes:
        kind: `ask` for an answer, `signal` for a signal, `sleep` for a time.
        name: The name under which it is answered; that of the signal.
        title: What is asked, with `{stage[key]}` and `{param}` for values of the run.
        form: The class of the answer as `package.module:Class`; empty for any JSON.
        schema: The JSON Schema of the answer.
        recipients: Who should answer, such as `group:ops`. It decides about no permission.
        timeout_seconds: How long the stage waits; None for no limit.
        on_timeout: The answer after that time as `{"value": …}`; None if the stage fails then.
    """

    kind: Literal["ask", "signal", "sleep"]
    name: str
    title: str = ""
    form: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)
    recipients: tuple[str, ...] = ()
    timeout_seconds: float | None = None
    on_timeout: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StageOptions:
    """What the definition of a stage and its plan have in common.

    Attributes:
        name: Unique within the workflow.
        call: What the adapter runs, in the adapter's own format; for `python`, the function as `package.module:name`.
        options: Any other data that the adapter needs to run the stage; JSON.
        retries: Attempts and waits after a failure.
        timeout_seconds: Time limit of one attempt, after which its process is killed; None means no limit.
        atomic: Whether the function and the end of its attempt are one database transaction.
        arguments: What the function is called with, besides its context and inputs.
        condition: A function as `package.module:name`; a worker calls it before each attempt. If it returns a false
            value, the stage is skipped. Empty: none.
        negated: Whether the stage is skipped if `condition` returns a true value instead.
        each: Of which values the stage runs once for each; None if it runs once.
        pool: The pool that runs it; empty for that of the run.
        adapter: The adapter that runs it; empty for that of the run.
        wait: What the stage waits for, if it does that and nothing else.
    """

    name: str
    call: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    retries: Retry = field(default_factory=Retry)
    timeout_seconds: float | None = None
    atomic: bool = False
    arguments: Arguments = field(default_factory=Arguments)
    condition: str = ""
    negated: bool = False
    each: Each | None = None
    pool: str = ""
    adapter: str = ""
    wait: WaitPlan | None = None

    def __post_init__(self) -> None:
        if self.timeout_seconds is not None:
            check_seconds("timeout_seconds", self.timeout_seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePlan(StageOptions):
    """The plan of one stage.

    Attributes:
        step: Stages of one step run in parallel. A step starts when all stages of the previous step are completed.
        hosted: Whether another stage of the step runs this one and reports on it. A hosted stage is never queued.
        base_name: The name that the stage was given, if a run has several of that name; else empty.
    """

    step: int
    hosted: bool = False
    base_name: str = ""

    def __post_init__(self) -> None:
        StageOptions.__post_init__(self)
        if self.each is not None and len(quote(self.name, safe="")) > MAX_EACH_NAME_LENGTH:
            raise InvalidDefinition(
                f"Stage {self.name} runs for each value: expected a name of at most {MAX_EACH_NAME_LENGTH} characters "
                "when percent-encoded"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON data, without the options that few stages have, unless this one has them."""
        stored = dataclasses.asdict(self)
        for name in _RARE_OPTIONS:
            if not stored[name] or stored[name] == _NO_ARGUMENTS:
                del stored[name]
        return stored

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read the result of `to_json`, from this release or an earlier one."""
        fields = {key: value for key, value in stored.items() if key in cls.__dataclass_fields__}
        arguments = stored.get("arguments", _NO_ARGUMENTS)
        nested = {
            "retries": Retry(**stored.get("retries", {})),
            "arguments": Arguments(tuple(arguments["positional"]), dict(arguments["named"])),
            "each": Each(**stored["each"]) if stored.get("each") else None,
            "wait": _wait_from_json(stored["wait"]) if stored.get("wait") else None,
        }
        return cls(**{**fields, **nested})


_NO_ARGUMENTS: Final[dict[str, Any]] = {"positional": (), "named": {}}
_RARE_OPTIONS: Final = ("arguments", "condition", "negated", "base_name", "each", "pool", "adapter", "wait")


def _wait_from_json(stored: Mapping[str, Any]) -> WaitPlan:
    return WaitPlan(**{**stored, "recipients": tuple(stored["recipients"])})


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The plan of a workflow.

    Attributes:
        name: Name of the definition.
        adapter: Name of the adapter that runs the stages.
        stages: Ordered by step, and within a step as defined.
        timeout_seconds: Time limit of the workflow from its start; None means no limit.
    """

    name: str
    adapter: str
    stages: tuple[StagePlan, ...]
    timeout_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.timeout_seconds is not None:
            check_seconds("timeout_seconds", self.timeout_seconds)
        if not any(not stage.hosted for stage in self.stages):
            raise InvalidDefinition(f"Workflow {self.name} has no stages: expected at least one")
        names = Counter(stage.name for stage in self.stages)
        if repeated := sorted(name for name, count in names.items() if count > 1):
            raise InvalidDefinition(
                f"Workflow {self.name} has several stages named {', '.join(repeated)}: expected each name once"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON data, without its stages: each stage row stores the plan of its stage."""
        return {"name": self.name, "timeout_seconds": self.timeout_seconds}


def check_seconds(name: str, value: object, *, may_be_zero: bool = False) -> None:
    """Check that the value is a duration.

    Raises:
        InvalidDefinition: if it is not a number of seconds up to `MAX_SECONDS`.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= MAX_SECONDS or (value == 0 and not may_be_zero):  # type: ignore[operator]
        bounds = f"from 0 to {MAX_SECONDS:.0f}" if may_be_zero else f"above 0, at most {MAX_SECONDS:.0f}"
        raise InvalidDefinition(f"{name}={value!r}: expected a number of seconds {bounds}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
