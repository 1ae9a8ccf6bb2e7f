"""What the positions of all channels are together, as one position of the log."""

from __future__ import annotations

from collections.abc import Iterable

from mahavishnu_client.events import Position
from mahavishnu_client.sinks import EventQueue, Sink


def newest(sinks: Iterable[Sink], delivered: Position) -> Position | None:
    """Return the newest position that is known; None before the first connection.

    Args:
        sinks: The receivers of all channels.
        delivered: What the server has delivered of all channels, and the current log; its `epoch` may be empty.
    """
    if not delivered.epoch:
        return None
    seqs = [sink.seq for sink in sinks if sink.seq is not None and sink.epoch == delivered.epoch]
    return Position(max([delivered.seq, *seqs]), delivered.epoch)


def handled(sinks: Iterable[Sink], delivered: Position) -> Position | None:
    """Return the position up to which the callers have handled every event; None if there are no callers."""
    known = [sink.handled for sink in sinks if isinstance(sink, EventQueue)]
    positions = [position for position in known if position is not None]
    # A caller that has not seen a change of the log yet: from there on, everything is behind its position.
    older = [position for position in positions if position.epoch != delivered.epoch]
    return min(older or positions, key=lambda position: position.seq, default=None)
