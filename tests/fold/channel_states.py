"""The states of all channels, folded from the event log and compared with the snapshots of the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from django.conf import settings
from msgspec.structs import replace

from mahavishnu_client import messages
from mahavishnu_client.fold import decode_state, fold
from mahavishnu_client.state import Overview, Pool, PoolRow, State, Worker
from orchestration import models
from realtime.eventlog.position import current_position
from realtime.eventlog.reader import read_events_with_rooms
from realtime.events.truncation import truncate_json
from realtime.protocol.channels import GLOBAL, SUMMARY
from realtime.protocol.messages import encode_event
from realtime.protocol.summary import summarize
from realtime.queries.snapshots import read_snapshot

MAX_EVENTS = 10_000
MAX_EVENT_BYTES = 64 * 1024 * 1024

Record = Callable[[str, str, bytes], None]
"""Receives a channel, `event` or `snapshot`, and the JSON text of it."""


class Message(msgspec.Struct):
    """An event as a client receives it."""

    event: str
    seq: int
    room: str
    data: msgspec.Raw


class ClientEvent(NamedTuple):
    """An event as a client folds it."""

    name: str
    data: Any


class RuleBroken(AssertionError):
    """The fold of the events of a channel is not its snapshot."""


def decode_event(message: bytes | msgspec.Raw) -> ClientEvent:
    """Decode the message of an event.

    Raises:
        msgspec.ValidationError: if its data lacks a field. A client would read the state again.
    """
    decoded = msgspec.json.decode(message, type=Message)
    return ClientEvent(decoded.event, msgspec.json.decode(decoded.data, type=messages.EVENT_TYPES[decoded.event]))


class ChannelStates:
    """What a client of every channel holds.

    Attributes:
        states: The state of each channel that has had events; None after its resource was removed.
        compared: How many snapshots were compared, by channel type, with all their fields.
        truncated: How many states were truncated, and read again.
    """

    def __init__(self, record: Record | None = None) -> None:
        self.states: dict[str, State | None] = {}
        self.compared: dict[str, int] = {}
        self.truncated = 0
        self._record = record
        self._position = current_position()
        for channel in (GLOBAL, SUMMARY):
            text = self._snapshot_text(channel)
            self.states[channel] = decode_state(channel, text)
            if record is not None:
                record(channel, "snapshot", text)
        self.store()

    def update(self) -> None:
        """Fold the new events of every channel, and compare every state with its snapshot.

        Raises:
            RuleBroken: if one differs.
        """
        events = self._new_events()
        for channel in sorted({*self.states, *events, *_stored_channels()}):
            self._update(channel, events.get(channel, []))

    def store(self) -> None:
        """Store all states with the position of the log, as a client does before it stops."""
        self._stored = (
            self._position,
            {channel: msgspec.json.encode(state) for channel, state in self.states.items() if not is_truncated(state)},
        )

    def restart(self) -> None:
        """Resume from the stored states: fold what followed, in each channel of which no event is pruned."""
        since, stored = self._stored
        if since.seq < self._position.trimmed_seq:
            return
        self._position = since
        self.states = {channel: decode_state(channel, text) for channel, text in stored.items()}
        self.update()

    def _update(self, channel: str, new: list[bytes]) -> None:
        folded = self.states.get(channel)
        if folded is None and not new and channel in self.states:
            return
        for message in new:
            folded = fold(channel, folded, decode_event(message))
            if self._record is not None:
                self._record(channel, "event", message)
        text = self._snapshot_text(channel)
        snapshot = decode_state(channel, text)
        if self._record is not None and new:
            self._record(channel, "snapshot", text)
        self.states[channel] = folded
        if is_truncated(folded) or is_truncated(snapshot):
            self.truncated += 1
            self.states[channel] = snapshot
        elif folded != (expected := without_exceptions(snapshot, folded)):
            events = "\n".join(message.decode() for message in new)
            lines = "\n".join(differences(folded, expected))
            raise RuleBroken(f"{channel} differs:\n{lines}\nafter\n{events or 'no event'}")
        else:
            kind = channel.partition(":")[0]
            self.compared[kind] = self.compared.get(kind, 0) + 1

    def _snapshot_text(self, channel: str) -> bytes:
        limit = settings.MAHAVISHNU_LIMITS.max_event_data_bytes
        snapshot = read_snapshot(channel, max_bytes=limit)
        return b"null" if snapshot is None else truncate_json(snapshot, max_bytes=limit).encode()

    def _new_events(self) -> dict[str, list[bytes]]:
        before, self._position = self._position, current_position()
        if before == self._position:
            return {}
        batch, rooms = read_events_with_rooms(
            epoch=before.epoch, after=before.seq, limit=MAX_EVENTS, max_bytes=MAX_EVENT_BYTES
        )
        events: dict[str, list[bytes]] = {}
        for event in batch.events:
            for room in (*rooms[event.seq], GLOBAL):
                events.setdefault(room, []).append(encode_event(event, room=room))
            if (summarized := summarize(event)) is not None:
                events.setdefault(SUMMARY, []).append(encode_event(summarized, room=SUMMARY))
        return events


def _stored_channels() -> Iterator[str]:
    for kind, model in (("workflow", models.Workflow), ("pool", models.Pool), ("worker", models.Worker)):
        for pk in model.objects.values_list("pk", flat=True):
            yield f"{kind}:{pk}"


def is_truncated(state: State | None) -> bool:
    return state is not None and state.truncated


def without_exceptions(snapshot: State | None, folded: State | None) -> State | None:
    """Return the snapshot with the folded values that may differ: heartbeats, and metrics that are published later."""
    snapshot = without_heartbeats(snapshot, folded)
    if isinstance(snapshot, Pool) and isinstance(folded, Pool):
        (row,) = _with_published_metrics((snapshot,), (folded,))
        return replace(snapshot, metrics=row.metrics)
    if isinstance(snapshot, Overview) and isinstance(folded, Overview):
        return replace(snapshot, pools=_with_published_metrics(snapshot.pools, folded.pools))
    return snapshot


def without_heartbeats(snapshot: State | None, folded: State | None) -> State | None:
    """Return the snapshot with the folded times of heartbeats."""
    if isinstance(snapshot, Worker) and isinstance(folded, Worker):
        return replace(snapshot, last_heartbeat_at=folded.last_heartbeat_at)
    if isinstance(snapshot, Pool) and isinstance(folded, Pool):
        beaten_at = {worker.worker_id: worker.last_heartbeat_at for worker in folded.workers}
        workers = (
            replace(worker, last_heartbeat_at=beaten_at.get(worker.worker_id, worker.last_heartbeat_at))
            for worker in snapshot.workers
        )
        return replace(snapshot, workers=tuple(workers))
    return snapshot


def _with_published_metrics(snapshot: tuple[PoolRow, ...], folded: tuple[PoolRow, ...]) -> tuple[PoolRow, ...]:
    published = {pool.pool_id: pool.metrics for pool in folded}
    return tuple(
        replace(pool, metrics=published[pool.pool_id])
        if published.get(pool.pool_id, pool.metrics) != pool.metrics and is_throttled(pool.pool_id)
        else pool
        for pool in snapshot
    )


def is_throttled(pool_id: str) -> bool:
    """Return whether the scheduler has still to publish the metrics of a pool."""
    dirty = models.Pool.objects.filter(pk=pool_id, metrics_dirty_since__isnull=False)
    return dirty.exists() and models.SchedulerHeartbeat.objects.filter(heartbeat_at__isnull=False).exists()


def differences(folded: Any, snapshot: Any, path: str = "") -> Iterator[str]:
    """List where a folded state differs from a snapshot."""
    if isinstance(folded, msgspec.Struct) and type(folded) is type(snapshot):
        for field in folded.__struct_fields__:
            yield from differences(getattr(folded, field), getattr(snapshot, field), f"{path}.{field}")
    elif isinstance(folded, tuple) and isinstance(snapshot, tuple) and len(folded) == len(snapshot):
        for number, (one, other) in enumerate(zip(folded, snapshot, strict=True)):
            yield from differences(one, other, f"{path}[{number}]")
    elif folded != snapshot:
        yield f"  {path or 'state'}: folded {_text(folded)}, snapshot {_text(snapshot)}"


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else repr(value)
