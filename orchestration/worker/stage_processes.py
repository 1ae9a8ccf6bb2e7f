"""The child processes of a worker: replaced soon after they end, and for stages that close every file.

A child counts as ended when the pipe that it has inherited, its sentinel, is closed. Celery then forgets the pipe, but
the child may still live: a stage has closed it, or the system closes it a moment before the process can be waited for.
When the broker connection is next established, Celery 5.7 registers all children again, finds no pipe for this one, and
the worker ends (`ValueError: file descriptor is None`).

For the same reason, Celery often finds an ended child alive, and replaces it up to 5 s later.

The module overrides private methods of Celery; `tests/worker/test_lost_workers.py` and
`tests/worker/test_stage_processes.py` guard them.
"""

from __future__ import annotations

from typing import Any, Final

from celery.concurrency.asynpool import AsynPool

CHECK_SECONDS: Final = 0.05
"""How long after the end of its pipe a child is checked again."""

MAX_CHECKS: Final = 20
"""How often. A child whose stage has closed the pipe may live for long; Celery checks all children every 5 s."""


class StageProcesses(AsynPool):
    """Celery's child processes. It checks every 5 s which have ended, regardless of their pipes."""

    def _event_process_exit(self, hub: Any, proc: Any) -> None:
        super()._event_process_exit(hub, proc)
        self._check_later(hub, proc, MAX_CHECKS)

    def _check_later(self, hub: Any, proc: Any, checks: int) -> None:
        """Replace a child as soon as it can be waited for."""
        if checks and proc in self._pool:
            hub.call_later(CHECK_SECONDS, self._check, hub, proc, checks - 1)

    def _check(self, hub: Any, proc: Any, checks: int) -> None:
        self.maintain_pool()
        self._check_later(hub, proc, checks)

    def _track_child_process(self, proc: Any, hub: Any) -> None:
        if vars(proc).get("_sentinel_poll", hub) is None:
            # Without the attribute, Celery duplicates the pipe again; if it is closed, its event comes once more.
            del proc._sentinel_poll
        super()._track_child_process(proc, hub)
