"""The child processes of a worker, for stages that close every file.

A child counts as ended when the pipe that it has inherited, its sentinel, is closed. Celery then forgets the pipe, but
the child may still live: a stage has closed it, or the system closes it a moment before the process can be waited for.
When the broker connection is next established, Celery 5.7 registers all children again, finds no pipe for this one, and
the worker ends (`ValueError: file descriptor is None`).

It overrides a private method of Celery; `tests/worker/test_lost_workers.py` guards it.
"""

from __future__ import annotations

from typing import Any

from celery.concurrency.asynpool import AsynPool


class StageProcesses(AsynPool):
    """Celery's child processes. It checks every 5 s which have ended, regardless of their pipes."""

    def _track_child_process(self, proc: Any, hub: Any) -> None:
        if vars(proc).get("_sentinel_poll", hub) is None:
            # Without the attribute, Celery duplicates the pipe again; if it is closed, its event comes once more.
            del proc._sentinel_poll
        super()._track_child_process(proc, hub)
