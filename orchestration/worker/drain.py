"""Steps of a worker process that drains or stops: its messages reach other workers, and its stages end in time."""

from __future__ import annotations

from typing import Any, Final

from celery import bootsteps

from orchestration.worker import bootstrap

CHECK_SECONDS: Final = 0.5


class ConsumerDrain(bootsteps.StartStopStep):
    """A step of the worker's consumer. It checks the flag that the supervisor sets in the slot table."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._timer: Any = None

    def start(self, parent: Any) -> None:
        """Start the checks. Called by Celery when the worker has connected."""
        self._timer = parent.timer.call_repeatedly(CHECK_SECONDS, self._check, (parent,))

    def stop(self, parent: Any) -> None:
        """Stop the checks. Called by Celery when the worker disconnects."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, parent: Any) -> None:
        if bootstrap.is_draining():
            for queue in list(parent.app.amqp.queues.consume_from):
                parent.cancel_task_queue(queue)


class GracePeriod(bootsteps.StartStopStep):
    """A step of the worker. It begins the grace period of running stages, regardless of why the worker stops.

    Celery announces a shutdown by a signal after SIGTERM, but not when it restarts after SIGHUP, and waits for the
    running stages in both cases.
    """

    requires = ("celery.worker.components:Pool",)

    def close(self, parent: Any) -> None:
        """Begin the period. Called by Celery before it stops anything."""
        bootstrap.begin_shutdown()
