"""What a test can make the fake server do next."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mahavishnu_client.testing.script import Answer, Refusal, Script

T = TypeVar("T")


class ScriptedServer:
    """The part of the fake server that changes its script."""

    _script: Script

    def _do(self, function: Callable[[], T]) -> T:
        raise NotImplementedError

    def respond(self, name: str, answer: Answer) -> None:
        """Answer each request of this name with these data, or with what a function of its data returns."""
        self._do(lambda: self._script.answers.update({name: answer}))

    def freeze(self) -> None:
        """Send nothing any longer: no answer, no event and no pong."""
        self._do(lambda: setattr(self._script, "is_frozen", True))

    def thaw(self) -> None:
        """Answer again. What was not sent meanwhile is not sent later."""
        self._do(lambda: setattr(self._script, "is_frozen", False))

    def hold_answers(self) -> None:
        """Answer no request any longer. Pings are answered."""
        self._do(lambda: setattr(self._script, "is_holding_answers", True))

    def limit_replays(self, max_replay_events: int) -> None:
        """Set how many missed events one `since` may replay."""
        self._do(lambda: setattr(self._script, "max_replay_events", max_replay_events))

    def limit_messages(self, *, per_second: float, burst: int) -> None:
        """Set the message limits that the welcome announces."""
        limits = {"max_messages_per_second": per_second, "max_message_burst": burst}
        self._do(lambda: self._script.limits.update(limits))

    def refuse_connections(self, *, times: int, code: int, error_code: str, **error: object) -> None:
        """Close the next connections without a welcome."""
        fields = {"error_code": error_code, "retryable": True, **error}
        self._do(lambda: self._script.refusals.extend([Refusal(code, fields)] * times))

    def refuse_handshakes(self, *, times: int, status: int = 429, retry_after_seconds: int | None = None) -> None:
        """Answer the next handshakes with an HTTP status."""
        self._do(lambda: self._script.handshakes.extend([(status, retry_after_seconds)] * times))

    def fail_subscribes(self, *, times: int, error_code: str, **error: object) -> None:
        """Answer the next `subscribe` requests with an error."""
        fields = {"error_code": error_code, "retryable": True, **error}
        self._do(lambda: self._script.subscribe_errors.extend([fields] * times))

    def discard_messages(self, *, times: int, **error: object) -> None:
        """Discard the next messages unread, as the rate limit does."""
        fields = {"error_code": "RATE_LIMIT_EXCEEDED", "retryable": True, **error}
        self._do(lambda: self._script.discards.extend([fields] * times))
