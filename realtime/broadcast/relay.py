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

from realtime.broadcast.flush import Delivering
from realtime.broadcast.groups import Bus
from realtime.broadcast.publisher import BusMessage, Entry
from realtime.broadcast.room import Room, Subscriber
from realtime.data_loader import Batched
from realtime.database import in_database_thread
from realtime.eventlog import log
from realtime.limits import Limits
from realtime.protocol.channels import GLOBAL
from realtime.protocol.messages import EventRecord, encode_event
from realtime.protocol.requests import MAX_SEQ

logger = logging.getLogger(__name__)

READ_CHUNK_EVENTS = 500
"""How many events are read from the log at once, for a hole or a replay."""

_MAX_HELD_EVENTS = 1000
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
        self.position: log.Position | None = None
        self.delivering = Delivering(limits)
        self.polled_at = 0.0
        self._limits = limits
        self.bus = Bus(self._take_off_bus, timeout_seconds=limits.publish_timeout_seconds)
        # Rooms that open together share a query, which begins after the last of them asked.
        self._positions: Batched[None, log.Position] = Batched(_read_positions)
        self._tasks: list[asyncio.Task[None]] = []
        self._joining: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Read the log's position and begin to listen.

        Raises:
            django.db.Error: if the database does not answer.
        """
        self.position = await in_database_thread(log.position)
        self.polled_at = asyncio.get_running_loop().time()
        self._tasks = [asyncio.create_task(self.bus.listen()), asyncio.create_task(self._poll())]

    async def stop(self) -> None:
        """Stop listening. Rooms and subscribers are left as they are."""
        tasks = [*self._tasks, *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _known_position(self) -> log.Position:
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
        room.forget(subscriber)
        if not room.members:
            self._close(room)

    async def _open(self, room: Room) -> None:
        """Join the group first, then read the position: what comes after the answer is pushed, as a rule.

        (Redis may be told of a later event before it has carried out the join, which the layer does not wait for.
        Such an event is found as a hole before the next one, or by comparing with the log.)
        """
        try:
            await self.bus.join(room.group)
            position = await self._positions.get(None)
            assert position is not None, "the query leaves no key out"
            room.seq = position.seq
        except BaseException:
            if self._is_here(room):
                self._close(room)
            raise
        if self._is_here(room):
            self._take(room, ())

    def _is_here(self, room: Room) -> bool:
        return self.rooms.get(room.channel) is room

    def _close(self, room: Room) -> None:
        del self.rooms[room.channel]
        self._spawn(self.bus.leave(room.group), f"leave {room.channel}")

    # --- From the bus --------------------------------------------------------------------------------------------

    def _take_off_bus(self, message: BusMessage) -> None:
        if (room := self.rooms.get(message["room"])) is not None:
            self._take(room, message["entries"])

    def _take(self, room: Room, entries: Iterable[Entry]) -> None:
        """Deliver what follows without a hole; hold the rest and see to the hole."""
        complete = max(room.seq, self._known_position.seq) if room.is_open else room.seq
        for entry in entries:
            if entry[1] > room.seq and (len(room.held) < _MAX_HELD_EVENTS or (room.is_open and entry[0] <= complete)):
                room.held[entry[1]] = entry
        if not room.is_open:
            return
        for seq in sorted(room.held):
            previous_seq, _, timestamp, message = room.held[seq]
            if seq > room.seq:
                if previous_seq > max(room.seq, complete):
                    break
                self.delivering.deliver(room, seq, timestamp, message)
            del room.held[seq]
        if room.held and room.repair is None:
            room.repair = asyncio.get_running_loop().call_later(_REORDER_GRACE_SECONDS, self._repair_if_open, room)

    def _repair_if_open(self, room: Room) -> None:
        room.repair = None
        if room.held and self._is_here(room):
            self._repair(room)

    # --- From the log --------------------------------------------------------------------------------------------

    def _repair(self, room: Room) -> asyncio.Task[None]:
        """Start to fill the room from the log, unless that is under way."""
        if isinstance(room.repair, asyncio.Task):
            return room.repair
        if room.repair is not None:
            room.repair.cancel()
        room.repair = self._spawn(self._fill(room), f"fill {room.channel}")
        return room.repair

    async def _fill(self, room: Room) -> None:
        try:
            while self._is_here(room):
                known = self._known_position
                events = await in_database_thread(
                    log.read,
                    room.channel,
                    epoch=known.epoch,
                    after=max(room.seq, known.seq),
                    through=MAX_SEQ,
                    most=READ_CHUNK_EVENTS,
                )
                for event in events:
                    if event.seq > room.seq:
                        self._deliver_event(room, event)
                if len(events) < READ_CHUNK_EVENTS:
                    break
        except log.EventsGone as error:
            self._start_over([room], error)
        finally:
            room.repair = None
        # What was held lies below what was read, or follows it: the log shows a commit only after all before it.
        self._take(room, ())

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
                self._joining = self._spawn(self.bus.catch_up(), "join groups")

    async def compare_with_log(self) -> None:
        """Deliver what the log has and the bus did not bring.

        Raises:
            django.db.Error: if the database does not answer. The next comparison starts where this one did.
        """
        known = self._known_position
        found, newest = await in_database_thread(_position_and_newest, known.seq)
        if found.epoch != known.epoch or found.seq < known.seq or found.trimmed_seq > known.seq:
            self.position = found
            self._start_over(list(self.rooms.values()), log.EventsGone(known.seq, found.trimmed_seq))
            return
        newest[GLOBAL] = found.seq
        behind = {
            channel: room
            for channel, seq in newest.items()
            if (room := self.rooms.get(channel)) is not None and -1 < room.seq < seq
        }
        if len(behind) * READ_CHUNK_EVENTS > found.seq - known.seq + READ_CHUNK_EVENTS:
            # One by one would take more queries.
            await self._fill_together(behind, known)
        else:
            await asyncio.gather(*(self._repair_up_to(room, newest[channel]) for channel, room in behind.items()))
        self.position = found

    async def _fill_together(self, rooms: dict[str, Room], known: log.Position) -> None:
        """Fill all these rooms with what the log has above `known`."""
        after, is_more = known.seq, True
        while is_more:
            events = await in_database_thread(
                log.read_with_rooms, epoch=known.epoch, after=after, most=READ_CHUNK_EVENTS
            )
            for event, channels in events:
                for channel in (*channels, GLOBAL):
                    room = rooms.get(channel)
                    if room is not None and event.seq > room.seq:
                        self._deliver_event(room, event)
                after = event.seq
            is_more = len(events) == READ_CHUNK_EVENTS
        for room in rooms.values():
            self._take(room, ())

    async def _repair_up_to(self, room: Room, seq: int) -> None:
        # A repair that is under way may have read the log too early; one that begins now has not.
        for _ in range(2):
            if room.seq < seq:
                await self._repair(room)

    def _start_over(self, rooms: list[Room], why: log.EventsGone) -> None:
        """The log is another one, or was pruned beyond what was delivered: no subscription can be continued."""
        logger.warning("%s: all subscribers of %d channels start over", why, len(rooms))
        for room in rooms:
            if self._is_here(room):
                self._close(room)
            for subscriber in list(room.members):
                subscriber.log_was_replaced()

    def _deliver_event(self, room: Room, event: EventRecord) -> None:
        self.delivering.deliver(room, event.seq, event.timestamp.timestamp(), encode_event(event, room=room.channel))

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("The relay could not %s (%r)", task.get_name(), error)


def _read_positions(keys: list[None]) -> dict[None, log.Position]:
    return dict.fromkeys(keys, log.position())


def _position_and_newest(after: int) -> tuple[log.Position, dict[str, int]]:
    """The position is read first: what is newest per room then reaches at least up to it."""
    found = log.position()
    return found, log.newest_per_room(after=after) if found.seq > after else {}
