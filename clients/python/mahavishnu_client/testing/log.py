"""The event log and the states of the fake server."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from mahavishnu_client.events import Event, decode
from mahavishnu_client.fold import decode_state, fold
from mahavishnu_client.state import Overview, State

_ROOM_KINDS = ("workflow", "pool", "worker")
_FIELDS_NOT_IN_SUMMARY = ("result", "params", "stages")
_EVENTS_NOT_IN_SUMMARY = ("workflow.stage_log", "workflow.stage_progress", "workflow.step_completed")


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One event of the log.

    Attributes:
        seq: Its position.
        name: Its name.
        rooms: The channels that deliver it.
        fields: The fields of its message but `room` and `replay`.
    """

    seq: int
    name: str
    rooms: tuple[str, ...]
    fields: dict[str, Any]

    def message(self, room: str, *, replay: bool = False) -> dict[str, Any]:
        """Return the message that delivers it in a channel."""
        message = {**self.fields, "room": room, **({"replay": True} if replay else {})}
        if room == "summary":
            data = {key: value for key, value in message["data"].items() if key not in _FIELDS_NOT_IN_SUMMARY}
            message["data"] = data
        return message


@dataclass
class FakeLog:
    """The events so far, and the state of every channel after them.

    Attributes:
        epoch: The name of the log.
        seq: The position of the last event.
        trimmed_seq: Events up to here are pruned.
        events: The events that are kept.
        states: The state of each channel that has one.
    """

    epoch: str = field(default_factory=lambda: uuid.uuid4().hex[:16])
    seq: int = 0
    trimmed_seq: int = 0
    events: list[LoggedEvent] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)

    def append(self, name: str, data: dict[str, Any], *, channels: tuple[str, ...] = ()) -> LoggedEvent:
        """Add an event, and fold it into the states of its channels.

        Args:
            name: Its name.
            data: Its data. Without a `timestamp`, it gets the time now.
            channels: Its channels besides `global`; else those of the ids in its data.
        """
        self.seq += 1
        timestamp = data.get("timestamp") or datetime.now(UTC).isoformat().replace("+00:00", "Z")
        rooms = channels or tuple(f"{kind}:{data[f'{kind}_id']}" for kind in _ROOM_KINDS if data.get(f"{kind}_id"))
        if name.startswith("workflow.") and not name.startswith("workflow.h") and not channels:
            rooms = tuple(room for room in rooms if room.startswith("workflow:"))
        summary = () if name in _EVENTS_NOT_IN_SUMMARY else ("summary",)
        fields = {
            "id": str(uuid.uuid4()),
            "type": "event",
            "event": name,
            "data": {"timestamp": timestamp, **data},
            "timestamp": timestamp,
            "seq": self.seq,
        }
        event = LoggedEvent(self.seq, name, (*rooms, "global", *summary), fields)
        self.events.append(event)
        for room in event.rooms:
            self._fold(room, event)
        return event

    def snapshot(self, channel: str) -> Any:
        """Return the snapshot of a channel; None if its resource does not exist."""
        return msgspec.to_builtins(self._state(channel))

    def set_state(self, channel: str, snapshot: dict[str, Any]) -> None:
        """Set the state of a channel, as a snapshot has it."""
        state = decode_state(channel, msgspec.json.encode(snapshot))
        assert state is not None
        self.states[channel] = state

    def missed(self, channel: str, *, since: int) -> list[LoggedEvent]:
        """Return the events of a channel after a position."""
        return [event for event in self.events if event.seq > since and channel in event.rooms]

    def trim(self) -> None:
        """Prune every event."""
        self.events.clear()
        self.trimmed_seq = self.seq

    def renew_epoch(self) -> None:
        """Replace the log by an empty one. The states stay."""
        self.epoch = uuid.uuid4().hex[:16]
        self.seq = self.trimmed_seq = 0
        self.events.clear()

    def _state(self, channel: str) -> State | None:
        empty = Overview(workflows=(), pools=()) if channel in ("global", "summary") else None
        return self.states.get(channel, empty)

    def _fold(self, room: str, event: LoggedEvent) -> None:
        decoded = decode(msgspec.json.encode(event.message(room)))
        assert isinstance(decoded, Event)
        if room.partition(":")[0] not in (*_ROOM_KINDS, "global", "summary"):
            return
        state = fold(room, self._state(room), decoded)
        if state is None:
            self.states.pop(room, None)
        else:
            # A server reads its state from the database: nothing is missing there.
            self.states[room] = msgspec.structs.replace(state, truncated=False)
