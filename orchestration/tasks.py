"""The one Celery task: run a queued stage."""

from __future__ import annotations

import logging
import time
from typing import Any, NoReturn

from celery import shared_task
from celery.exceptions import Reject
from django.db import Error as DatabaseError
from django.db import connection

from orchestration import services
from orchestration.db.retry import is_unavailable
from orchestration.identifiers import TASK_NAME
from orchestration.worker import child
from orchestration.worker.executor import run_attempt

logger = logging.getLogger(__name__)

_REQUEUE_PAUSE_SECONDS = 0.25


@shared_task(name=TASK_NAME, acks_late=True, reject_on_worker_lost=True, ignore_result=True)  # type: ignore[untyped-decorator]
def run_stage(stage_id: int, attempt: int) -> Any:
    """Run an attempt of a stage if it is still due."""
    slot = child.current_slot()
    try:
        if slot.must_replace or not child.wait_for_worker(slot):
            raise services.StaleWorker(slot.worker_id)
        run_attempt(
            stage_id,
            attempt,
            shared_slot=slot,
            process=child.worker_process_id(),
            is_stopping=child.is_stopping,
            is_shutting_down=child.is_shutting_down,
            is_grace_over=child.is_grace_over,
        )
    except services.StageNotRunnable as error:
        # The message has no further use: the scheduler dispatches the stage again.
        logger.debug("Refused attempt %d of stage %d: %s", attempt, stage_id, error)
    except (services.StaleWorker, DatabaseError) as error:
        if isinstance(error, DatabaseError) and not is_unavailable(error):
            raise  # Celery logs it. The scheduler dispatches the stage again later.
        connection.close()
        _requeue(error)


def _requeue(error: Exception) -> NoReturn:
    """Return the message to the end of the queue: another worker can run it, or this one later.

    The pause keeps it from circulating in a busy loop.
    """
    time.sleep(_REQUEUE_PAUSE_SECONDS)
    raise Reject(error, requeue=True) from error
