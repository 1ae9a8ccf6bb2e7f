"""Read what a subscription starts from: the log position, the missed events and the snapshot of the channel."""

from __future__ import annotations

from dataclasses import dataclass

from realtime.database import consistent_read
from realtime.eventlog.position import Position, current_position
from realtime.eventlog.reader import count_events, read_events
from realtime.events.truncation import truncate_json
from realtime.limits import Limits
from realtime.protocol.messages import EventRecord
from realtime.queries.snapshots import read_snapshot

REPLAY_CHUNK_EVENTS = 200
"""Missed events read from the log at once. Up to this many stay in memory for each slow client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePoint:
    """Where a subscription starts.

    Attributes:
        position: Position of the log. Live events lie above it.
        missed: Number of events of the channel after the client's position, up to `position`; 0 if not replayed.
        events: The first `REPLAY_CHUNK_EVENTS` of them.
        reason: Why they cannot be replayed: `epoch`, `trimmed`, `ahead` or `limit`; None if they can.
        snapshot: State of the channel at `position` as JSON text; None if the client did not request it.
    """

    position: Position
    missed: int
    events: list[EventRecord]
    reason: str | None
    snapshot: str | None


def find_resume_point(
    channel: str, *, since: int | None, epoch: str | None, with_snapshot: bool, limits: Limits
) -> ResumePoint:
    """Read position, missed events and snapshot in one consistent read."""
    with consistent_read():
        position = current_position()
        reason = None if since is None else _unrecoverable_reason(position, since, epoch)
        events: list[EventRecord] = []
        missed = 0
        if since is not None and reason is None:
            events = read_next(channel, epoch=position.epoch, after=since, through=position.seq)
            missed = len(events)
            if missed == REPLAY_CHUNK_EVENTS:
                missed = count_events(channel, after=since, through=position.seq, limit=limits.max_replay_events + 1)
            if missed > limits.max_replay_events:
                events, missed, reason = [], 0, "limit"
        snapshot = (
            truncate_json(read_snapshot(channel), max_bytes=limits.max_event_data_bytes) if with_snapshot else None
        )
    return ResumePoint(position=position, missed=missed, events=events, reason=reason, snapshot=snapshot)


def read_next(channel: str, *, epoch: str, after: int, through: int) -> list[EventRecord]:
    """Return the next `REPLAY_CHUNK_EVENTS` events of `channel` above `after` up to `through`, without gaps.

    Raises:
        eventlog.reader.PositionOutOfRange: if some of them are pruned, or the log was replaced.
    """
    return read_events(channel, epoch=epoch, after=after, through=through, limit=REPLAY_CHUNK_EVENTS)


def _unrecoverable_reason(position: Position, since: int, epoch: str | None) -> str | None:
    if epoch is not None and epoch != position.epoch:
        return "epoch"
    if since > position.seq:
        return "ahead"
    if since < position.trimmed_seq:
        return "trimmed"
    return None
