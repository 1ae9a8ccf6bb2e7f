"""States as the caller receives them: with the time when they were last known to be true, and whether they still are.

Each view has two more attributes than its state: `as_of`, the time at which the state was last known to be that of the
server, and `is_live`, whether it is that of the server now. After one that is not live, the next live one follows.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

from mahavishnu_client.state import Overview, Pool, Run, State, Worker


class LiveRun(Run, frozen=True, kw_only=True, gc=False):
    """A run with its stages, as `Client.follow` returns it."""

    as_of: datetime
    is_live: bool

    @property
    def is_finished(self) -> bool:
        """Whether it is completed, failed, cancelled or timed out. It may still be retried."""
        return self.status not in ("pending", "running")


class LivePool(Pool, frozen=True, kw_only=True, gc=False):
    """A pool with its workers."""

    as_of: datetime
    is_live: bool


class LiveWorker(Worker, frozen=True, kw_only=True, gc=False):
    """A worker."""

    as_of: datetime
    is_live: bool


class LiveOverview(Overview, frozen=True, kw_only=True, gc=False):
    """The unfinished runs and the pools."""

    as_of: datetime
    is_live: bool


LiveView: TypeAlias = LiveRun | LivePool | LiveWorker | LiveOverview

_VIEWS: dict[type[State], type[LiveView]] = {
    Run: LiveRun,
    Pool: LivePool,
    Worker: LiveWorker,
    Overview: LiveOverview,
}


def view_of(state: State, *, as_of: datetime, is_live: bool) -> LiveView:
    """Return a state with its `as_of` and `is_live`."""
    fields = {name: getattr(state, name) for name in state.__struct_fields__}
    return _VIEWS[type(state)](as_of=as_of, is_live=is_live, **fields)
