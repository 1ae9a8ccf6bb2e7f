"""What a subscription starts from: the log's position, what was missed since a client's own, the channel's state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from realtime import log
from realtime.database import one_moment
from realtime.snapshots import snapshot_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where a subscription starts.

    Attributes:
        position: The log's; live events lie above it.
        missed: How many events of the channel lie between the client's position and the log's.
        reason: Why they cannot be replayed (`epoch`, `trimmed`, `ahead`, `limit`); None if they can.
        snapshot: The channel's state at `position`, where it was asked for.
    """

    position: log.Position
    missed: int
    reason: str | None
    snapshot: Any


def find_start(
    channel: str, *, since: int | None, epoch: str | None, with_snapshot: bool, max_replay_events: int
) -> Start:
    """Read position, missed events and state as they were at one moment."""
    with one_moment():
        position = log.position()
        reason = None if since is None else _why_not(position, since, epoch)
        missed = 0
        if since is not None and reason is None:
            missed = log.count(channel, after=since, through=position.seq, most=max_replay_events + 1)
            if missed > max_replay_events:
                missed, reason = 0, "limit"
        snapshot = snapshot_of(channel) if with_snapshot else None
    return Start(position=position, missed=missed, reason=reason, snapshot=snapshot)


def _why_not(position: log.Position, since: int, epoch: str | None) -> str | None:
    if epoch is not None and epoch != position.epoch:
        return "epoch"
    if since > position.seq:
        return "ahead"
    if since < position.trimmed_seq:
        return "trimmed"
    return None
