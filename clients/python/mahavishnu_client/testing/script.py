"""What a test wants the fake server to do next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Answer = dict[str, Any] | Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a connection is refused: with an error and a close code."""

    close_code: int
    error_fields: dict[str, Any]


@dataclass
class Script:
    """The wishes of a test.

    Attributes:
        limits: The limits in the welcome.
        max_replay_events: Missed events that one `since` may replay.
        is_frozen: Whether nothing is sent.
        is_holding_answers: Whether requests are not answered.
        requests: Every request so far: its name and its data.
        answers: The answer of each request that has one.
        handshakes: The status and the `Retry-After` of the next handshakes.
    """

    limits: dict[str, Any] = field(default_factory=dict)
    max_replay_events: int = 10_000
    is_frozen: bool = False
    is_holding_answers: bool = False
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    handshakes: deque[tuple[int, int | None]] = field(default_factory=deque)
    refusals: deque[Refusal] = field(default_factory=deque)
    discards: deque[dict[str, Any]] = field(default_factory=deque)
    subscribe_errors: deque[dict[str, Any]] = field(default_factory=deque)
    on_request: Callable[[str, dict[str, Any]], None] = lambda name, data: None

    def next_refusal(self) -> Refusal | None:
        """Return how the next connection is refused; None if it is accepted."""
        return self.refusals.popleft() if self.refusals else None

    def next_discard(self) -> dict[str, Any] | None:
        """Return the error with which the next message is discarded; None if it is read."""
        return self.discards.popleft() if self.discards else None

    def next_subscribe_error(self) -> dict[str, Any] | None:
        """Return the error of the next `subscribe`; None if it succeeds."""
        return self.subscribe_errors.popleft() if self.subscribe_errors else None

    def answer_to(self, name: str, data: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer that the test has set; None if it has set none."""
        answer = self.answers.get(name)
        return answer(data) if callable(answer) else answer
