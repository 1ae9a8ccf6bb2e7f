"""What a worker process checks and imports before it forks its children."""

from __future__ import annotations

import gc

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections

from orchestration.db.retry import retry_while_unavailable
from orchestration.models import Pool, PoolStatus
from orchestration.sdk import broken_modules
from orchestration.services.installation import installation_id
from orchestration.worker.code_check import load_adapters


class CannotStart(Exception):
    """The worker could do nothing. `str()` gives the reason."""


def check_pool(pool_id: str) -> None:
    """Wait for the database, and check that workers may join a pool.

    Raises:
        CannotStart: if the pool is closed, or does not exist and may not be created; if the database is up, but refuses
            to be read.
    """

    def read_status() -> str | None:
        # The broker connection needs the identifier, and the children inherit it.
        installation_id()
        return Pool.objects.filter(pk=pool_id).values_list("status", flat=True).first()

    try:
        status = retry_while_unavailable(read_status, timeout_seconds=None)
    except DatabaseError as error:
        raise CannotStart(f"The database cannot be read ({error!r}). Has `manage.py migrate` run?") from None
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
    """Import every workflow and adapter, so that all children run one version of the code and share its memory.

    Raises:
        CannotStart: if a module of workflows cannot be imported. If that of an adapter cannot, the worker runs the
            stages of others.
    """
    broken = broken_modules()
    load_adapters()
    connections.close_all()  # A module may have opened one.
    if broken:
        raise CannotStart(" ".join(f"{module}." for module in broken))
    # A garbage collection would write to all of these objects, and so copy their memory for each child.
    gc.freeze()
