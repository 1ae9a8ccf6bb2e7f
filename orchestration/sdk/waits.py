"""Stages that wait and hold no slot: `ask` for an answer, `wait_for_signal` for a signal, `sleep` for a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Self

from orchestration.identifiers import IDENTIFIER_EXPECTED, is_identifier
from orchestration.plan import InvalidDefinition, WaitPlan, check_seconds
from orchestration.sdk.form import checked_answer, form_reference, form_schema
from orchestration.sdk.stage import StageDefinition
from orchestration.sdk.title import check_title, formatted_title
from orchestration.services import InvalidAnswer
from orchestration.text import storable

MAX_RECIPIENTS: Final = 20
MAX_RECIPIENT_LENGTH: Final = 128

_NONE: Final = object()
"""Stands for an answer that was not given."""


@dataclass(frozen=True, slots=True)
class OpenWait:
    """What an adapter returns for a stage that waits: for what, with the title as people see it."""

    wait: WaitPlan

    @classmethod
    def of(cls, wait: WaitPlan, results: Mapping[str, Any], inputs: Mapping[str, Any]) -> Self:
        """Return what a stage waits for, with the values of its run in the title.

        Raises:
            StageFailed: if the run has no value for a placeholder of the title.
        """
        return cls(replace(wait, title=formatted_title(wait.title, results, inputs)))


def ask(
    name: str,
    form: type = str,
    *,
    title: str = "",
    timeout_seconds: float | None = None,
    on_timeout: Any = _NONE,
    to: Sequence[str] = (),
) -> StageDefinition:
    """Make a stage that waits for an answer, and holds no slot meanwhile. Its output is the answer.

    `run.answer(name, …)` answers it, and so do the HTTP API, a signed link and `manage.py answer_workflow`. The first
    valid answer wins. `ctx.results.get_as(name, form)` returns it, and `ctx.answers[name]` says who answered, and when.

    Args:
        name: The name of the stage.
        form: What the answer must be: a dataclass, a `Struct`, a class of attrs, a `TypedDict`, a model of pydantic, or
            `str` (the default), `bool`, `int` or `float`.
        title: What is asked. `{param}` stands for a parameter or the prompt, `{stage}` for the output of a stage, and
            `{stage[key]}` for a part of it.
        timeout_seconds: How long to wait; None for no limit.
        on_timeout: The answer after that. Without it, the stage fails then.
        to: Who should answer, for those who show or send the question. It decides about no permission.

    Raises:
        InvalidDefinition: if an argument is out of range, or another process could not find the form.
    """
    check_title(title)
    wait = question(name, form, title=title, to=to, timeout_seconds=timeout_seconds)
    return StageDefinition(name=name, call="", wait=_with_default(wait, on_timeout))


def question(name: str, form: type, *, title: str, to: Sequence[str], timeout_seconds: float | None) -> WaitPlan:
    """Return the plan of a wait for an answer.

    Raises:
        InvalidDefinition: if an argument is out of range.
    """
    recipients = _recipients(to)
    return WaitPlan(
        kind="ask",
        name=_checked_name("name", name),
        title=title,
        form=form_reference(form),
        schema=form_schema(form),
        recipients=recipients,
        timeout_seconds=_checked_timeout(timeout_seconds),
    )


def wait_for_signal(
    signal: str,
    form: type | None = None,
    *,
    name: str | None = None,
    timeout_seconds: float | None = None,
    on_timeout: Any = _NONE,
) -> StageDefinition:
    """Make a stage that waits for a signal, and holds no slot meanwhile. Its output is what the signal contains.

    `run.signal(signal, …)` sends it. A signal that comes before is kept.

    Args:
        signal: The name of the signal.
        form: What the signal must contain, as that of `ask`; None for any JSON.
        name: The name of the stage; by default that of the signal.
        timeout_seconds: How long to wait; None for no limit.
        on_timeout: The output after that. Without it, the stage fails then.

    Raises:
        InvalidDefinition: if an argument is out of range, or another process could not find the form.
    """
    wait = signal_wait(signal, form, timeout_seconds=timeout_seconds)
    stage_name = _checked_name("name", name or signal)
    return StageDefinition(name=stage_name, call="", wait=_with_default(wait, on_timeout))


def signal_wait(signal: str, form: type | None, *, timeout_seconds: float | None) -> WaitPlan:
    """Return the plan of a wait for a signal.

    Raises:
        InvalidDefinition: if an argument is out of range.
    """
    return WaitPlan(
        kind="signal",
        name=_checked_name("signal", signal),
        form="" if form is None else form_reference(form),
        schema={} if form is None else form_schema(form),
        timeout_seconds=_checked_timeout(timeout_seconds),
    )


def sleep(
    *, seconds: float = 0, minutes: float = 0, hours: float = 0, days: float = 0, name: str = "sleep"
) -> StageDefinition:
    """Make a stage that waits for a time, and holds no slot meanwhile. Its output is None.

    Raises:
        InvalidDefinition: if the time is out of range.
    """
    total = timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days).total_seconds()
    check_seconds("sleep", total)
    checked = _checked_name("name", name)
    return StageDefinition(name=checked, call="", wait=WaitPlan(kind="sleep", name=checked, timeout_seconds=total))


def _with_default(wait: WaitPlan, answer: Any) -> WaitPlan:
    if answer is _NONE:
        return wait
    if wait.timeout_seconds is None:
        raise InvalidDefinition("on_timeout: expected timeout_seconds too")
    try:
        return replace(wait, on_timeout={"value": checked_answer(wait, answer)})
    except InvalidAnswer as error:
        raise InvalidDefinition(f"on_timeout: {error}") from error


def _checked_timeout(timeout_seconds: float | None) -> float | None:
    if timeout_seconds is not None:
        check_seconds("timeout_seconds", timeout_seconds)
    return timeout_seconds


def _checked_name(argument: str, name: str) -> str:
    if not isinstance(name, str) or not is_identifier(name):
        raise InvalidDefinition(f"{argument}={name!r}: expected {IDENTIFIER_EXPECTED}")
    return name


def _recipients(to: Sequence[str]) -> tuple[str, ...]:
    is_valid = not isinstance(to, str) and len(to) <= MAX_RECIPIENTS
    if not is_valid or not all(isinstance(each, str) and _is_recipient(each) for each in to):
        raise InvalidDefinition(
            f"to={to!r}: expected at most {MAX_RECIPIENTS} names such as group:ops, each on one line and of at most "
            f"{MAX_RECIPIENT_LENGTH} characters"
        )
    return tuple(to)


def _is_recipient(name: str) -> bool:
    return 0 < len(name) <= MAX_RECIPIENT_LENGTH and name.splitlines() == [name] and storable(name) == name
