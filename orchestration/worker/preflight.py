"""What a worker process checks and imports before it forks its children."""

from __future__ import annotations

import gc
import logging

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections

from orchestration.models import Pool, PoolStatus
from orchestration.sdk import broken_modules

logger = logging.getLogger(__name__)


class CannotStart(Exception):
    """The worker could do nothing. `str()` gives the reason."""


def check_pool(pool_id: str) -> None:
    """Check that workers may join a pool.

    Raises:
        CannotStart: if it is closed, or does not exist and may not be created.
    """
    try:
        status = Pool.objects.filter(pk=pool_id).values_list("status", flat=True).first()
    except DatabaseError as error:
        # The worker waits for the database; its supervisor logs that.
        logger.warning("Cannot check pool %s at the start (%r); the worker starts anyway", pool_id, error)
        return
    finally:
        connections.close_all()  # The children must not inherit one.
    if status is None and not settings.MAHAVISHNU_CREATE_POOLS:
        raise CannotStart(
            f"Pool {pool_id} not found, and MAHAVISHNU_CREATE_POOLS is off. "
            f"`manage.py create_pool {pool_id}` creates it."
        )
    if status == PoolStatus.CLOSED:
        raise CannotStart(f"Pool {pool_id} is closed and accepts no workers. Expected an active or a draining pool.")


def import_workflows() -> None:
    """Import every workflow, so that all children run one version of the code and share its memory.

    Raises:
        CannotStart: if a module cannot be imported.
    """
    broken = broken_modules()
    connections.close_all()  # A module may have opened one.
    if broken:
        raise CannotStart(" ".join(f"{module}." for module in broken))
    # A garbage collection would write to all of these objects, and so copy their memory for each child.
    gc.freeze()
