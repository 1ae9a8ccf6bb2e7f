"""Send a resuming client the events it has missed, at the pace at which it reads them."""

from __future__ import annotations

from realtime.broadcast.room import Room
from realtime.connection.registry import Connection
from realtime.eventlog.reader import PositionOutOfRange
from realtime.queries.resume import ReplayChunk, ResumePoint


class Replay:
    """What follows the response to a `subscribe` with `since` or `snapshot`.

    A client that reads nothing holds one chunk, in its send queue: the next one is read when it has read most of this.

    Args:
        connection: The connection that has subscribed.
        room: The room of the channel, with the connection as a member that is not live.
        start: Where the subscription starts.
    """

    __slots__ = ("_chunk", "_connection", "_epoch", "_response_seq", "_room")

    def __init__(self, connection: Connection, room: Room, start: ResumePoint) -> None:
        self._connection = connection
        self._room = room
        self._epoch = start.position.epoch
        self._response_seq = start.position.seq
        self._chunk = start.chunk

    async def run(self) -> None:
        """Replay up to the position in the response, then send later events, until the subscription is live."""
        connection, room = self._connection, self._room
        after = self._response_seq
        if self._chunk is not None:
            after = self._write(self._chunk)
            self._chunk = None
        while room.channel in connection.channels:
            is_live = after >= self._response_seq and room.activate(connection, after=after)
            # After the last chunk too: the connection's next replay must not add to it.
            await connection.caught_up()
            if is_live:
                return
            try:
                chunk = await self._next_chunk(after)
            except PositionOutOfRange:
                connection.on_log_reset()
                return
            if room.channel not in connection.channels:
                return  # It was left meanwhile: another token does not permit it.
            after = self._write(chunk)

    async def _next_chunk(self, after: int) -> ReplayChunk:
        reads, channel = self._connection.replay_reads, self._room.channel
        if after < self._response_seq:
            chunk = await reads.chunk(channel, epoch=self._epoch, after=after, through=self._response_seq)
        else:
            chunk = await reads.later_chunk(channel, epoch=self._epoch, after=after, delivered=self._room.seq)
        self._connection.replay_budget.charge(chunk.cost_bytes)
        return chunk

    def _write(self, chunk: ReplayChunk) -> int:
        """Write a chunk and return its end."""
        for frames in chunk.parts:
            self._connection.write(frames)
        return chunk.through
