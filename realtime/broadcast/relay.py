"""One relay per process: it receives each event once and hands the same bytes to every connection subscribed here.

The relay joins a room's layer group with the first local subscriber and leaves it with the last. A room knows the
position up to which its subscribers have been given everything. An event from the bus carries the seq before it in its
room, so a hole is seen at once; it is filled from the log, in order, before anything later is delivered. Events that
the bus lost with nothing after them are found by comparing the log's newest rows with the rooms twice a second.

Everything here runs on one event loop and nothing awaits between a check and the delivery it allows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable

from realtime.broadcast.flush import WriteCoalescer
from realtime.broadcast.groups import GroupSubscriptions
from realtime.broadcast.message import Entry, GroupMessage
from realtime.broadcast.room import Room, Subscriber
from realtime.database import DataLoader, in_database_thread
from realtime.eventlog.position import Position, current_position
from realtime.eventlog.reader import PositionOutOfRange, newest_seq_by_room, read_events, read_events_with_rooms
from realtime.limits import Limits
from realtime.protocol.channels import GLOBAL
from realtime.protocol.messages import EventRecord, encode_event
from realtime.protocol.requests import MAX_SEQ

logger = logging.getLogger(__name__)

BACKFILL_CHUNK_EVENTS = 500
"""How many events are read from the log at once, for a hole or a replay."""

_MAX_REORDER_BUFFER_EVENTS = 1000
"""Events of one room kept while a hole before them is filled; later ones are read from the log."""

_REORDER_GRACE_SECONDS = 0.01
"""How long a hole may be a push of another process that is merely late: then it closes without reading the log."""


class Relay:
    """The rooms of one process, on one event loop.

    Attributes:
        position: The log up to which every room here is known to be complete.
        delivering: What is on its way to the subscribers.
        polled_at: When the rooms were last compared with the log, on the loop's clock.
    """

    def __init__(self, limits: Limits) -> None:
        self.rooms: dict[str, Room] = {}
        self.position: Position | None = None
        self.coalescer = WriteCoalescer(limits)
        self.polled_at = 0.0
        self._limits = limits
        self.groups = GroupSubscriptions(self._on_group_message, timeout_seconds=limits.publish_timeout_seconds)
        # Rooms that open together share a query, which begins after the last of them asked.
        self._positions: DataLoader[None, Position] = DataLoader(_read_positions)
        self._tasks: list[asyncio.Task[None]] = []
        self._joining: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Read the log's position and begin to listen.

        Raises:
            django.db.Error: if the database does not answer.
        """
        self.position = await in_database_thread(current_position)
        self.polled_at = asyncio.get_running_loop().time()
        self._tasks = [asyncio.create_task(self.groups.listen()), asyncio.create_task(self._poll())]

    async def stop(self) -> None:
        """Stop listening. Rooms and subscribers are left as they are."""
        tasks = [*self._tasks, *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _known_position(self) -> Position:
        assert self.position is not None, "start() has read it"
        return self.position

    # --- Subscribers ---------------------------------------------------------------------------------------------

    async def join(self, channel: str, subscriber: Subscriber) -> Room:
        """Make `subscriber` a member of the room, which it then holds open until `leave`. It is not live yet.

        Raises:
            django.db.Error: if the room is new and the database does not answer.
        """
        room = self.rooms.get(channel)
        if room is None:
            room = self.rooms[channel] = Room(channel, epoch=self._known_position.epoch)
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
        """End a membership, if there is one."""
        room = self.rooms.get(channel)
        if room is None or subscriber not in room.members:
            return
        room.remove(subscriber)
        if not room.members:
            self._close(room)

    async def _open(self, room: Room) -> None:
        """Join the group first, then read the position: what comes after the answer is pushed, as a rule.

        (Redis may be told of a later event before it has carried out the join, which the layer does not wait for.
        Such an event is found as a hole before the next one, or by comparing with the log.)
        """
        try:
            await self.groups.join(room.group)
            position = await self._positions.get(None)
            assert position is not None, "the query leaves no key out"
            room.seq = position.seq
        except BaseException:
            if self._is_here(room):
                self._close(room)
            raise
        if self._is_here(room):
            self._deliver_contiguous(room, ())

    def _is_here(self, room: Room) -> bool:
        return self.rooms.get(room.channel) is room

    def _close(self, room: Room) -> None:
        del self.rooms[room.channel]
        self._spawn(self.groups.leave(room.group), f"leave {room.channel}")

    # --- From the bus --------------------------------------------------------------------------------------------

    def _on_group_message(self, message: GroupMessage) -> None:
        if (room := self.rooms.get(message["room"])) is not None:
            self._deliver_contiguous(room, message["entries"])

    def _deliver_contiguous(self, room: Room, entries: Iterable[Entry]) -> None:
        """Deliver what follows without a hole; hold the rest and see to the hole."""
        complete = max(room.seq, self._known_position.seq) if room.is_open else room.seq
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
            room.backfill = asyncio.get_running_loop().call_later(_REORDER_GRACE_SECONDS, self._backfill_if_open, room)

    def _backfill_if_open(self, room: Room) -> None:
        room.backfill = None
        if room.reorder_buffer and self._is_here(room):
            self._start_backfill(room)

    # --- From the log --------------------------------------------------------------------------------------------

    def _start_backfill(self, room: Room) -> asyncio.Task[None]:
        """Start to fill the room from the log, unless that is under way."""
        if isinstance(room.backfill, asyncio.Task):
            return room.backfill
        if room.backfill is not None:
            room.backfill.cancel()
        room.backfill = self._spawn(self._backfill(room), f"fill {room.channel}")
        return room.backfill

    async def _backfill(self, room: Room) -> None:
        try:
            while self._is_here(room):
                known = self._known_position
                events = await in_database_thread(
                    read_events,
                    room.channel,
                    epoch=known.epoch,
                    after=max(room.seq, known.seq),
                    through=MAX_SEQ,
                    most=BACKFILL_CHUNK_EVENTS,
                )
                for event in events:
                    if event.seq > room.seq:
                        self._deliver_event(room, event)
                if len(events) < BACKFILL_CHUNK_EVENTS:
                    break
        except PositionOutOfRange as error:
            self._reset_subscriptions([room], error)
        finally:
            room.backfill = None
        # What was held lies below what was read, or follows it: the log shows a commit only after all before it.
        self._deliver_contiguous(room, ())

    async def _poll(self) -> None:
        """Compare what was delivered with the log, for ever: this alone would deliver everything, only later."""
        failing: type[Exception] | None = None
        while True:
            await asyncio.sleep(self._limits.relay_poll_seconds)
            try:
                await self.compare_with_log()
            except Exception as error:
                # Any failure of the database: the next round starts where this one did.
                if type(error) is not failing:
                    logger.warning("The relay cannot read the event log (%r)", error)
                failing = type(error)
            else:
                if failing is not None:
                    logger.warning("The relay reads the event log again")
                failing = None
                self.polled_at = asyncio.get_running_loop().time()
            if self._joining is None or self._joining.done():
                # Not here: a bus that hangs must not hold up the next comparison.
                self._joining = self._spawn(self.groups.catch_up(), "join groups")

    async def compare_with_log(self) -> None:
        """Deliver what the log has and the bus did not bring.

        Raises:
            django.db.Error: if the database does not answer. The next comparison starts where this one did.
        """
        known = self._known_position
        found, newest = await in_database_thread(_position_and_newest, known.seq)
        if found.epoch != known.epoch or found.seq < known.seq or found.trimmed_seq > known.seq:
            self.position = found
            self._reset_subscriptions(list(self.rooms.values()), PositionOutOfRange(known.seq, found.trimmed_seq))
            return
        newest[GLOBAL] = found.seq
        behind = {
            channel: room
            for channel, seq in newest.items()
            if (room := self.rooms.get(channel)) is not None and -1 < room.seq < seq
        }
        if len(behind) * BACKFILL_CHUNK_EVENTS > found.seq - known.seq + BACKFILL_CHUNK_EVENTS:
            # One by one would take more queries.
            await self._backfill_together(behind, known)
        else:
            await asyncio.gather(*(self._backfill_to(room, newest[channel]) for channel, room in behind.items()))
        self.position = found

    async def _backfill_together(self, rooms: dict[str, Room], known: Position) -> None:
        """Fill all these rooms with what the log has above `known`."""
        after, is_more = known.seq, True
        while is_more:
            events = await in_database_thread(
                read_events_with_rooms, epoch=known.epoch, after=after, most=BACKFILL_CHUNK_EVENTS
            )
            for event, channels in events:
                for channel in (*channels, GLOBAL):
                    room = rooms.get(channel)
                    if room is not None and event.seq > room.seq:
                        self._deliver_event(room, event)
                after = event.seq
            is_more = len(events) == BACKFILL_CHUNK_EVENTS
        for room in rooms.values():
            self._deliver_contiguous(room, ())

    async def _backfill_to(self, room: Room, seq: int) -> None:
        # A repair that is under way may have read the log too early; one that begins now has not.
        for _ in range(2):
            if room.seq < seq:
                await self._start_backfill(room)

    def _reset_subscriptions(self, rooms: list[Room], why: PositionOutOfRange) -> None:
        """The log is another one, or was pruned beyond what was delivered: no subscription can be continued."""
        logger.warning("%s: all subscribers of %d channels start over", why, len(rooms))
        for room in rooms:
            if self._is_here(room):
                self._close(room)
            for subscriber in list(room.members):
                subscriber.on_log_reset()

    def _deliver_event(self, room: Room, event: EventRecord) -> None:
        self.coalescer.deliver(room, event.seq, event.timestamp.timestamp(), encode_event(event, room=room.channel))

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("The relay could not %s (%r)", task.get_name(), error)


def _read_positions(keys: list[None]) -> dict[None, Position]:
    return dict.fromkeys(keys, current_position())


def _position_and_newest(after: int) -> tuple[Position, dict[str, int]]:
    """The position is read first: what is newest per room then reaches at least up to it."""
    found = current_position()
    return found, newest_seq_by_room(after=after) if found.seq > after else {}
