"""One relay per process: it receives each event once and writes the same bytes to every local subscriber.

The relay joins a room's channel-layer group with the first local subscriber and leaves it with the last. A room has a
position: its subscribers have received every event up to it. A received event carries the seq of the previous event in
its room, so a gap is detected at once. The gap is filled from the log (`realtime.broadcast.backfill`), in order, before
any later event is delivered.

All code here runs on one event loop, without an `await` between a check and the delivery that depends on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any

from realtime.broadcast.backfill import Backfill
from realtime.broadcast.envelope import Entry, GroupMessage
from realtime.broadcast.flush import WriteCoalescer
from realtime.broadcast.groups import GroupSubscriptions
from realtime.broadcast.position_notices import PositionNotices
from realtime.broadcast.room import Room, Subscriber
from realtime.database import DataLoader, in_relay_thread
from realtime.eventlog.epoch import ensure_epoch, warn_if_commits_can_be_lost
from realtime.eventlog.position import Position, current_position
from realtime.eventlog.reader import PositionOutOfRange
from realtime.limits import Limits
from realtime.protocol.channels import channels_from, source_of

logger = logging.getLogger(__name__)

_MAX_REORDER_BUFFER_EVENTS = 1000
"""Events of one room buffered while a gap before them is filled. Further events are read from the log."""

_REORDER_GRACE_SECONDS = 0.01
"""Time to wait before a backfill. A gap may close by then: messages of two processes can arrive out of order."""


class Relay:
    """The rooms of one process, on one event loop.

    Attributes:
        rooms: The rooms with at least one local subscriber, by channel.
        coalescer: Writes delivered events to the subscribers.
        groups: The groups of the rooms.
        backfill: Fills gaps from the log; compares the rooms with it.
        position_notices: Sends the position to connections after such comparisons.
        polled_at: When the rooms were last compared with the log, on the loop's clock.
    """

    def __init__(self, limits: Limits) -> None:
        self.rooms: dict[str, Room] = {}
        self.coalescer = WriteCoalescer(limits)
        self.groups = GroupSubscriptions(
            self._on_group_message,
            bus_key=lambda: self.backfill.known_position.bus_key,
            timeout_seconds=limits.publish_timeout_seconds,
        )
        self.backfill = Backfill(
            self.rooms,
            self.coalescer,
            deliver_buffered=self._deliver_buffered,
            on_out_of_range=self._reset_subscriptions,
            spawn=self._spawn,
        )
        self.position_notices = PositionNotices(self.coalescer, lambda: self.backfill.known_position)
        self.polled_at = 0.0
        self._limits = limits
        # Rooms that open together share one query, which starts after the last room has requested it.
        self._positions: DataLoader[None, Position] = DataLoader(_read_positions, run=in_relay_thread)
        self._tasks: list[asyncio.Task[None]] = []
        self._joining: asyncio.Task[None] | None = None
        self._sending_positions: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Read the log's position; start receiving group messages and polling the log. Check the epoch before.

        Raises:
            django.db.Error: if the database is unavailable.
        """
        await in_relay_thread(ensure_epoch)
        await in_relay_thread(warn_if_commits_can_be_lost)
        self.backfill.position = await in_relay_thread(current_position)
        self.polled_at = asyncio.get_running_loop().time()
        self._tasks = [asyncio.create_task(self.groups.listen()), asyncio.create_task(self._poll())]

    @property
    def position(self) -> Position | None:
        """Every room is complete up to this position of the log. None before the start."""
        return self.backfill.position

    # --- Subscribers ---------------------------------------------------------------------------------------------

    async def join(self, channel: str, subscriber: Subscriber) -> Room:
        """Add `subscriber` to the room as a member that is not live yet. `leave` removes it.

        Raises:
            django.db.Error: if the room is new and the database is unavailable.
        """
        room = self.rooms.get(channel)
        if room is None:
            room = self.rooms[channel] = Room(channel, epoch=self.backfill.known_position.epoch)
            room.opening = self._spawn(self._open(room), f"open {channel}")
        room.members.add(subscriber)
        if not room.is_open and room.opening is not None:
            try:
                await asyncio.shield(room.opening)
            except BaseException:
                self.leave(channel, subscriber)
                raise
        return room

    def leave(self, channel: str, subscriber: Subscriber) -> None:
        """Remove `subscriber` from the room, if it is a member. Close the room after its last member."""
        room = self.rooms.get(channel)
        if room is None or subscriber not in room.members:
            return
        room.remove(subscriber)
        if not room.members:
            self._close(room)

    async def _open(self, room: Room) -> None:
        """Join the group, then read the position: later events usually arrive through the group.

        (The layer does not wait until Redis has processed the join, so Redis may publish a later event before the join.
        That event is found as a gap before the next one, or by comparing the room with the log.)
        """
        try:
            await self.groups.join(room.group)
            position = await self._positions.get(None)
            assert position is not None, "the query has a value for each key"
            room.seq = position.seq
        except BaseException:
            if self._is_registered(room):
                self._close(room)
            raise
        if self._is_registered(room):
            self._deliver_buffered(room)

    def _is_registered(self, room: Room) -> bool:
        return self.rooms.get(room.channel) is room

    def _close(self, room: Room) -> None:
        del self.rooms[room.channel]
        if not any(channel in self.rooms for channel in channels_from(source_of(room.channel))):
            self.groups.leave(room.group)
        if self._leaving is None or self._leaving.done():
            self._leaving = self._spawn(self.groups.leave_unwanted(), "leave groups")

    def _reset_subscriptions(self, rooms: list[Room], reason: PositionOutOfRange) -> None:
        """Reset all subscriptions of these rooms: the log was replaced, or events not yet delivered were pruned."""
        logger.warning("%s; resetting the subscriptions of %d channels", reason, len(rooms))
        for room in rooms:
            if self._is_registered(room):
                self._close(room)
            for subscriber in list(room.members):
                subscriber.on_log_reset()

    # --- Delivery ------------------------------------------------------------------------------------------------

    def _on_group_message(self, message: GroupMessage) -> None:
        for channel in channels_from(message.room):
            if (room := self.rooms.get(channel)) is not None:
                self._deliver_contiguous(room, message.entries)

    def _deliver_buffered(self, room: Room) -> None:
        self._deliver_contiguous(room, ())

    def _deliver_contiguous(self, room: Room, entries: Iterable[Entry]) -> None:
        """Deliver the events that follow without a gap; buffer the others until the gap is filled."""
        complete = max(room.seq, self.backfill.known_position.seq) if room.is_open else room.seq
        for entry in entries:
            if entry[1] > room.seq and (
                len(room.reorder_buffer) < _MAX_REORDER_BUFFER_EVENTS or (room.is_open and entry[0] <= complete)
            ):
                room.reorder_buffer[entry[1]] = entry
        if not room.is_open:
            return
        for seq in sorted(room.reorder_buffer):
            previous_seq, _, timestamp, message = room.reorder_buffer[seq]
            if seq > room.seq:
                if previous_seq > max(room.seq, complete):
                    break
                self.coalescer.deliver(room, seq, timestamp, message)
            del room.reorder_buffer[seq]
        if room.reorder_buffer and room.backfill is None:
            room.backfill = asyncio.get_running_loop().call_later(_REORDER_GRACE_SECONDS, self._fill_gap, room)

    def _fill_gap(self, room: Room) -> None:
        room.backfill = None
        if room.reorder_buffer and self._is_registered(room):
            self.backfill.start(room)

    # --- Background tasks ----------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        """Compare the rooms with the log in a loop. This alone would deliver every event, only later."""
        failing: type[Exception] | None = None
        while True:
            await asyncio.sleep(self._limits.relay_poll_seconds)
            try:
                await self.backfill.compare_with_log()
            except Exception as error:
                # Each database driver has its own exceptions. The next round starts at the same position.
                if type(error) is not failing:
                    logger.warning("The relay cannot read the event log (%r); retrying", error)
                failing = type(error)
            else:
                if failing is not None:
                    logger.warning("The relay reads the event log again")
                failing = None
                self.polled_at = asyncio.get_running_loop().time()
                if self._sending_positions is None or self._sending_positions.done():
                    self._sending_positions = self._spawn(self.position_notices.send_due(), "send positions")
            if self._joining is None or self._joining.done():
                # In a task: a hanging channel layer must not delay the next comparison.
                self._joining = self._spawn(self.groups.retry_failed(), "retry joining and leaving groups")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("Relay task %s failed (%r); events arrive through the log", task.get_name(), error)


def _read_positions(keys: list[None]) -> dict[None, Position]:
    return dict.fromkeys(keys, current_position())
