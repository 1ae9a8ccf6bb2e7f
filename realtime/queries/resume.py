"""Read what a subscription starts from: the log position, the missed events and the snapshot of the channel."""

from __future__ import annotations

from dataclasses import dataclass

from realtime.database import consistent_read
from realtime.eventlog.position import Position, current_position
from realtime.eventlog.reader import EventBatch, count_events, is_complete, read_events
from realtime.events.truncation import truncate_text
from realtime.limits import Limits
from realtime.protocol.channels import SUMMARY
from realtime.protocol.frames import Frames, build_frames
from realtime.protocol.messages import encode_event
from realtime.protocol.payload import encode_data, size_in_bytes
from realtime.protocol.requests import MAX_SEQ
from realtime.protocol.summary import summarize
from realtime.queries.pages import EXAMINED_ROW_BYTES
from realtime.queries.snapshots import read_snapshot
from realtime.queries.stage_pages import counting_cost_bytes

REPLAY_CHUNK_EVENTS = 200
"""Events read from the log at once, if they take fewer than `max_replay_chunk_bytes`."""

MAX_SUMMARY_POSITIONS = 10
"""A replay of `summary` passes over this many positions for each event of `max_replay_events`, at most. Those of the
events that it leaves out have no index, so they are read one by one."""


@dataclass(frozen=True, slots=True)
class ReplayChunk:
    """Consecutive events of one channel, encoded. It is never changed, so several connections may send it.

    Attributes:
        epoch: The log that they are from.
        after: Position that they follow.
        through: The chunk has every event of the channel above `after` up to here.
        event_count: Number of events.
        parts: Their messages.
        size_bytes: Size of their messages.
        cost_bytes: What the budget of a connection is charged for them: their size, with what `summary` removes.
    """

    epoch: str
    after: int
    through: int
    event_count: int
    parts: list[Frames]
    size_bytes: int
    cost_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePoint:
    """Where a subscription starts.

    Attributes:
        position: Position of the log. Live events lie above it.
        missed: Number of events of the channel after the client's position, up to `position`; 0 if not replayed.
        chunk: The first of them; None if they are not replayed.
        reason: Why they cannot be replayed: `epoch`, `trimmed`, `ahead` or `limit`; None if they can.
        snapshot: State of the channel at `position` as JSON text; None if the client did not request it.
        cost_bytes: What the budget of a connection is charged for: the chunk, also if it was cached or is shared, and
            the whole snapshot with the stages that were counted for it. With the reason `limit`, also the events that
            were counted: no later chunk charges for them. For `summary`, also the events that it leaves out.
    """

    position: Position
    missed: int
    chunk: ReplayChunk | None
    reason: str | None
    snapshot: str | None
    cost_bytes: int


def find_resume_point(
    channel: str,
    *,
    since: int | None,
    epoch: str | None,
    with_snapshot: bool,
    limits: Limits,
    cached: ReplayChunk | None = None,
) -> ResumePoint:
    """Read position, missed events and snapshot in one consistent read.

    Args:
        channel: The channel.
        since: Position of the client; None if it does not resume.
        epoch: The log that `since` belongs to; None for the current one.
        with_snapshot: Whether to read the state of the channel.
        limits: The bounds of a replay and of a snapshot.
        cached: A chunk of the channel that begins at `since`, read before. It is used instead of another read.
    """
    with consistent_read():
        position = current_position()
        reason = None if since is None else _unrecoverable_reason(channel, position, since, epoch, limits)
        chunk: ReplayChunk | None = None
        missed = cost_bytes = 0
        if since is not None and reason is None:
            chunk = cached
            if chunk is None or chunk.epoch != position.epoch or chunk.through > position.seq:
                chunk = read_chunk(channel, epoch=position.epoch, after=since, through=position.seq, limits=limits)
            missed, cost_bytes = chunk.event_count, chunk.cost_bytes
            if chunk.through < position.seq:
                countable = limits.max_replay_events + 1 - missed
                missed += count_events(channel, after=chunk.through, through=position.seq, limit=max(countable, 0))
            if channel == SUMMARY:
                cost_bytes += (position.seq - since - missed) * EXAMINED_ROW_BYTES
            if missed > limits.max_replay_events:
                cost_bytes += missed * EXAMINED_ROW_BYTES
                chunk, missed, reason = None, 0, "limit"
        snapshot = None
        if with_snapshot:
            state = read_snapshot(channel, max_bytes=limits.max_event_data_bytes)
            snapshot = encode_data(state)
            cost_bytes += size_in_bytes(snapshot) + counting_cost_bytes((state or {}).get("stage_counts", {}))
            snapshot = truncate_text(snapshot, max_bytes=limits.max_event_data_bytes)
    return ResumePoint(
        position=position, missed=missed, chunk=chunk, reason=reason, snapshot=snapshot, cost_bytes=cost_bytes
    )


def read_chunk(channel: str, *, epoch: str, after: int, through: int, limits: Limits) -> ReplayChunk:
    """Read the next events of a replay, above `after` up to `through`, without gaps.

    Raises:
        eventlog.reader.PositionOutOfRange: if some of them are pruned, or the log was replaced.
    """
    batch = _read(channel, epoch=epoch, after=after, through=through, limits=limits)
    return _encoded(batch, channel, epoch=epoch, after=after, through=through, replay=True)


def read_later_chunk(channel: str, *, epoch: str, after: int, delivered: int, limits: Limits) -> ReplayChunk:
    """Read the next events after a replay, above `after` up to the end of the log, without gaps.

    Args:
        channel: The channel.
        epoch: The log to read.
        after: Position to read from.
        delivered: A position up to which other subscribers have received the events of the channel.
        limits: The bounds of a chunk.

    Raises:
        eventlog.reader.PositionOutOfRange: if some of them are pruned, or the log was replaced.
    """
    batch = _read(channel, epoch=epoch, after=after, through=MAX_SEQ, limits=limits)
    # Delivered events were committed before this read. So it has those, and everything up to its own last event.
    end = max(delivered, batch.events[-1].seq if batch.events else 0)
    return _encoded(batch, channel, epoch=epoch, after=after, through=end, replay=False)


def _read(channel: str, *, epoch: str, after: int, through: int, limits: Limits) -> EventBatch:
    return read_events(
        channel,
        epoch=epoch,
        after=after,
        through=through,
        limit=REPLAY_CHUNK_EVENTS,
        max_bytes=limits.replay_chunk_bytes,
    )


def _encoded(batch: EventBatch, channel: str, *, epoch: str, after: int, through: int, replay: bool) -> ReplayChunk:
    events, removed_bytes = batch.events, 0
    if channel == SUMMARY:
        # The query has left out what `summary` does not carry.
        events = [summarized for event in events if (summarized := summarize(event)) is not None]
        removed_bytes = sum(size_in_bytes(event.data) for event in batch.events) - sum(
            size_in_bytes(event.data) for event in events
        )
    messages = [encode_event(event, room=channel, replay=replay) for event in events]
    size_bytes = sum(map(len, messages))
    return ReplayChunk(
        epoch=epoch,
        after=after,
        through=through if batch.is_last else batch.events[-1].seq,
        event_count=len(messages),
        parts=build_frames(messages) if messages else [],
        size_bytes=size_bytes,
        cost_bytes=size_bytes + removed_bytes,
    )


def _unrecoverable_reason(
    channel: str, position: Position, since: int, epoch: str | None, limits: Limits
) -> str | None:
    if epoch is not None and epoch != position.epoch:
        return "epoch"
    if since > position.seq:
        return "ahead"
    if not is_complete(channel, after=since, trimmed_seq=position.trimmed_seq):
        return "trimmed"
    if channel == SUMMARY and position.seq - since > MAX_SUMMARY_POSITIONS * limits.max_replay_events:
        return "limit"
    return None
