"""A recorded day: what a client of every channel receives, as JSON lines."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from mahavishnu_client.fold import decode_state, fold
from mahavishnu_client.state import State
from tests.fold.all_operations import MODULES
from tests.fold.channel_states import decode_event, is_truncated, without_heartbeats
from tests.fold.day import Day

SEED: Final = 12
LEFT_OUT: Final = ("heartbeat_of_the_scheduler", "restart_of_the_client")


class Line(msgspec.Struct):
    """An event that a channel delivers, or its snapshot after the events before."""

    channel: str
    event: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    snapshot: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def record_day(path: Path, *, steps: int) -> None:
    """Write the lines of a day. Its metrics are published at once, because no scheduler records heartbeats."""
    assert MODULES
    generator = random.Random(SEED)
    with path.open("wb") as file:

        def record(channel: str, kind: str, text: bytes) -> None:
            file.write(msgspec.json.encode({"channel": channel, kind: msgspec.Raw(text)}) + b"\n")

        day = Day(record)
        for _ in range(steps):
            day.step(
                lambda options: generator.choice(options),
                without=("heartbeat_of_the_scheduler", "restart_of_the_client"),
            )


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
