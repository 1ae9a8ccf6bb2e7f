"""A recorded day: what a client of every channel receives, as JSON lines."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import msgspec

from mahavishnu_client.fold import decode_state, fold
from mahavishnu_client.state import State
from tests.fold.all_operations import MODULES
from tests.fold.channel_states import decode_event, is_truncated, without_heartbeats
from tests.fold.day import OPERATIONS, Day

SEED: Final = 12
MAX_STEPS: Final = 2000
LEFT_OUT: Final = ("heartbeat_of_the_scheduler", "restart_of_the_client")


class Line(msgspec.Struct):
    """An event that a channel delivers, or its snapshot after the events before."""

    channel: str
    event: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    snapshot: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Named(msgspec.Struct):
    event: str


def record_day(path: Path, *, steps: int, events: Iterable[str] = (), of: Collection[ModuleType] = MODULES) -> None:
    """Write the lines of a day. Its metrics are published at once, because no scheduler records heartbeats.

    Args:
        path: The file.
        steps: How many steps the day has at least.
        events: The names of events that the day has to have: it continues until it has them.
        of: The modules of the operations that it does.
    """
    missing = set(events)
    left_out = [name for name, each in OPERATIONS.items() if each.__module__ not in {module.__name__ for module in of}]
    generator = random.Random(SEED)
    with path.open("wb") as file:

        def record(channel: str, kind: str, text: bytes) -> None:
            if kind == "event":
                missing.discard(msgspec.json.decode(text, type=_Named).event)
            file.write(msgspec.json.encode({"channel": channel, kind: msgspec.Raw(text)}) + b"\n")

        day = Day(record)
        for step in range(MAX_STEPS):
            if step >= steps and not missing:
                return
            day.step(
                lambda options: generator.choice(options),
                without=(*LEFT_OUT, *left_out),
            )
    assert not missing, sorted(missing)


def fold_day(path: Path) -> Iterator[tuple[str, State | None, State | None]]:
    """Fold a recorded day, and return each snapshot with its channel and the folded state."""
    states: dict[str, State | None] = {}
    for text in path.read_bytes().splitlines():
        line = msgspec.json.decode(text, type=Line)
        folded = states.get(line.channel)
        if isinstance(line.event, msgspec.Raw):
            states[line.channel] = fold(line.channel, folded, decode_event(line.event))
        elif isinstance(line.snapshot, msgspec.Raw):
            snapshot = decode_state(line.channel, line.snapshot)
            is_known = line.channel in states and not is_truncated(folded) and not is_truncated(snapshot)
            if is_known:
                yield line.channel, without_heartbeats(snapshot, folded), folded
            else:
                states[line.channel] = snapshot
