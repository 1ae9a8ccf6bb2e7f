"""When the processes of a program are restarted, and when the program has failed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class RestartPolicy:
    """How the processes of a program are restarted.

    Attributes:
        steady_seconds: A process that ran this long has started correctly. When it ends, it is restarted at once.
        min_delay_seconds: The pause after a process that ended earlier. It doubles with each further one.
        max_delay_seconds: The longest pause.
        max_exits: A process that ends this often within `window_seconds` has failed, and is not restarted.
        window_seconds: See `max_exits`.
    """

    steady_seconds: float = 10.0
    min_delay_seconds: float = 0.5
    max_delay_seconds: float = 30.0
    max_exits: int = 5
    window_seconds: float = 60.0


DEFAULT_POLICY = RestartPolicy()


class RestartHistory:
    """The ends of one process across all its restarts, and what follows from them."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._exits: deque[float] = deque(maxlen=policy.max_exits)
        self._early_exits = 0
        self._has_restarted = False
        self._failed_first_start = False

    def record_exit(self, *, ran_seconds: float, by_itself: bool, now: float) -> float:
        """Return the seconds until the process is to be restarted.

        Args:
            ran_seconds: How long it ran.
            by_itself: Whether it exited, for example because of its configuration. Otherwise a signal ended it.
            now: The time on the monotonic clock.
        """
        policy = self._policy
        self._exits.append(now)
        is_early = ran_seconds < policy.steady_seconds
        self._failed_first_start = is_early and (self._failed_first_start or (by_itself and not self._has_restarted))
        self._has_restarted = True
        self._early_exits = self._early_exits + 1 if is_early else 0
        if not is_early:
            return 0.0
        return min(policy.min_delay_seconds * 2.0 ** min(self._early_exits - 1, 32), policy.max_delay_seconds)

    def record_requested_restart(self) -> None:
        """Count the next start as a later one: the first one was correct."""
        self._has_restarted = True

    def failure(self, *, now: float, running_seconds: float | None) -> str | None:
        """Return why the process is not worth a restart, for a log line after its end; None if it is.

        Args:
            now: The time on the monotonic clock.
            running_seconds: How long the current process has been running, if there is one.
        """
        policy = self._policy
        if running_seconds is not None and running_seconds >= policy.steady_seconds:
            return None
        if self._failed_first_start:
            return "at its first start"
        if len(self._exits) == policy.max_exits and now - self._exits[0] <= policy.window_seconds:
            return f"for the {policy.max_exits}th time within {policy.window_seconds:g} s"
        return None
