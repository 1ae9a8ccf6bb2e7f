"""Fold events into states: a snapshot, folded with every later event of its channel, equals the next snapshot.

A fold is pure. It returns a new state, which shares its unchanged parts with the one before, or the same state if the
event does not change it. The caller passes each event once and in order, as `docs/protocol.md` describes: one whose
`seq` is not above that of the state has to be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from mahavishnu_client import messages
from mahavishnu_client.fold_overview import OVERVIEW_FOLDS
from mahavishnu_client.fold_pool import POOL_FOLDS, WORKER_FOLDS
from mahavishnu_client.fold_run import RUN_FOLDS
from mahavishnu_client.state import Overview, Pool, Run, State, Worker

S = TypeVar("S", bound=State)


class FoldableEvent(Protocol):
    """What a fold reads of an event: its name, and its data as a struct of `mahavishnu_client.messages`."""

    @property
    def name(self) -> str: ...

    @property
    def data(self) -> Any: ...


_TYPES: Final[Mapping[str, type[State]]] = {
    "workflow": Run,
    "pool": Pool,
    "worker": Worker,
    "global": Overview,
    "summary": Overview,
}
_DECODERS: Final[Mapping[str, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(state_type | None) for kind, state_type in _TYPES.items()
}
_FOLDS: Final[Mapping[str, Mapping[type[Any], Callable[[Any, Any], State | None]]]] = {
    "workflow": RUN_FOLDS,
    "pool": POOL_FOLDS,
    "worker": WORKER_FOLDS,
    "global": OVERVIEW_FOLDS,
    "summary": OVERVIEW_FOLDS,
}
_CREATING: Final = frozenset({messages.WorkflowCreated, messages.PoolCreated, messages.WorkerAdded})
# The state of a run has long values that an event may have cut. What the folds of these events use is never cut: only
# the results and the messages of stages are.
_COMPLETE_WHEN_CUT: Final = frozenset({messages.WorkflowStageCompleted, messages.WorkflowStageLog})


def decode_state(channel: str, raw_snapshot: bytes | str | msgspec.Raw) -> State | None:
    """Return the state in a snapshot of a channel; None if the snapshot is null.

    Args:
        channel: The channel.
        raw_snapshot: The JSON text of the snapshot.

    Raises:
        msgspec.ValidationError: if it is not a snapshot of such a channel.
    """
    state: State | None = _DECODERS[channel.partition(":")[0]].decode(raw_snapshot)
    if isinstance(state, Pool):
        # The workers of a pool do not repeat its id.
        return replace(state, workers=tuple(replace(worker, pool_id=state.pool_id) for worker in state.workers))
    return state


def fold(channel: str, state: S | None, event: FoldableEvent) -> S | None:
    """Return the state of a channel after an event.

    An event that is unknown, that is about another run, worker or pool, or that `emit_test_event` has sent, changes
    nothing. If its data could not be decoded, or what a run has of it is truncated, the new state is `truncated`: read
    it again.

    Args:
        channel: The channel that delivered the event.
        state: The state before; None if the run, the worker or the pool did not exist, or if it is not known.
        event: The event.
    """
    kind, _, resource_id = channel.partition(":")
    folds = _FOLDS[kind]
    data = event.data
    data_type = type(data)
    change = folds.get(data_type)
    if change is None:
        return _mark_undecoded(folds, state, event)
    if data.test or (state is None and not (resource_id and data_type in _CREATING)):
        return state
    if resource_id and getattr(data, f"{kind}_id") != resource_id and not _leaves(data, kind, resource_id):
        return state
    after: Any = change(state, data)
    if data.truncated and kind == "workflow" and after is not None and data_type not in _COMPLETE_WHEN_CUT:
        return replace(after, truncated=True)  # type: ignore[no-any-return]
    return after  # type: ignore[no-any-return]


def _leaves(data: object, kind: str, resource_id: str) -> bool:
    """Return whether a worker leaves this pool."""
    return kind == "pool" and isinstance(data, messages.WorkerMoved) and data.from_pool_id == resource_id


def _mark_undecoded(folds: Mapping[type[Any], Any], state: S | None, event: FoldableEvent) -> S | None:
    """Mark the state if the event may change it: its name is known, but its data is not that of this version."""
    data = event.data
    expected = messages.EVENT_TYPES.get(event.name)
    if state is None or expected is None or expected not in folds or isinstance(data, expected):
        return state
    if isinstance(data, Mapping) and data.get("test") is True:
        return state
    return replace(state, truncated=True)
