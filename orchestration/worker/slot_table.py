"""The table that one worker process shares with its children and its keeper: what each slot runs, and who is told.

It is a small file that all of them map into memory, so a look at it costs nothing, and the file outlives whoever dies.
Each field has one writer. A child writes what it is about to run before it claims it, and wipes that when all is done.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Final, NamedTuple, Self

MAX_SLOTS: Final = 512
_SLOT_BYTES: Final = 256
_HEADER_BYTES: Final = 256
_NAME_BYTES: Final = 128

_PID, _STAGE, _ATTEMPT, _STARTED, _TIMEOUT, _CANCEL_STAGE, _CANCEL_ATTEMPT = range(0, 56, 8)
_NAME_LENGTH: Final = 56
_NAME: Final = 64
_GROUP: Final = 192


class Running(NamedTuple):
    """What a slot runs.

    Attributes:
        started_ns: Since when, by the machine's monotonic clock.
        timeout_ms: How long it may; 0 for as long as it takes.
    """

    stage_id: int
    attempt: int
    started_ns: int
    timeout_ms: int


class SlotTable:
    """The shared table."""

    def __init__(self, path: Path, memory: mmap.mmap) -> None:
        self.path = path
        self._memory = memory

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make an empty table; the file is for this user alone."""
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            file.truncate(_HEADER_BYTES + MAX_SLOTS * _SLOT_BYTES)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        with path.open("r+b") as file:
            return cls(path, mmap.mmap(file.fileno(), 0))

    def slot(self, index: int) -> SharedSlot:
        if not 0 <= index < MAX_SLOTS:
            raise IndexError(f"slot {index}: expected one from 0 to {MAX_SLOTS - 1}")
        return SharedSlot(self._memory, _HEADER_BYTES + index * _SLOT_BYTES)

    @property
    def size(self) -> int:
        """How many slots the process has at most. Written by the process."""
        return int(struct.unpack_from("=q", self._memory, 0)[0])

    @size.setter
    def size(self, value: int) -> None:
        struct.pack_into("=q", self._memory, 0, value)

    @property
    def stopping_since_ns(self) -> int:
        """When the process was told to stop, by the monotonic clock; 0 if it was not. Written by the process."""
        return int(struct.unpack_from("=q", self._memory, 8)[0])

    @stopping_since_ns.setter
    def stopping_since_ns(self, value: int) -> None:
        struct.pack_into("=q", self._memory, 8, value)


class SharedSlot:
    """One slot of the table."""

    def __init__(self, memory: mmap.mmap, offset: int) -> None:
        self._memory = memory
        self._offset = offset

    @property
    def pid(self) -> int:
        """The child that fills the slot; 0 before there was one. Written by the child."""
        return self._get(_PID)

    @pid.setter
    def pid(self, value: int) -> None:
        self._put(_PID, value)

    @property
    def running(self) -> Running | None:
        """What the slot runs. Written by the child; by the keeper when the child is dead."""
        stage_id = self._get(_STAGE)
        if not stage_id:
            return None
        return Running(stage_id, self._get(_ATTEMPT), self._get(_STARTED), self._get(_TIMEOUT))

    @running.setter
    def running(self, value: Running | None) -> None:
        self._put(_STAGE, 0)
        if value is not None:
            self._put(_ATTEMPT, value.attempt)
            self._put(_STARTED, value.started_ns)
            self._put(_TIMEOUT, value.timeout_ms)
            self._put(_STAGE, value.stage_id)  # Last: from here on the others count.

    @property
    def worker_id(self) -> str:
        """The worker that stands for the slot; empty while there is none. Written by the keeper."""
        length = self._get(_NAME_LENGTH)
        start = self._offset + _NAME
        return self._memory[start : start + length].decode("ascii")

    @worker_id.setter
    def worker_id(self, value: str) -> None:
        encoded = value.encode("ascii")
        if len(encoded) > _NAME_BYTES:
            raise ValueError(f"{value!r}: expected at most {_NAME_BYTES} characters")
        self._put(_NAME_LENGTH, 0)
        start = self._offset + _NAME
        self._memory[start : start + len(encoded)] = encoded
        self._put(_NAME_LENGTH, len(encoded))

    @property
    def group(self) -> int:
        """A process group that the stage has started beside the child's own; 0 for none. Written by the child."""
        return self._get(_GROUP)

    @group.setter
    def group(self, value: int) -> None:
        self._put(_GROUP, value)

    def request_cancel(self, running: Running) -> None:
        """Tell the child that this attempt is not wanted any more. Called by the keeper."""
        self._put(_CANCEL_ATTEMPT, running.attempt)
        self._put(_CANCEL_STAGE, running.stage_id)

    def is_cancelled(self, stage_id: int, attempt: int) -> bool:
        """Tell whether the keeper said that about this attempt."""
        return self._get(_CANCEL_STAGE) == stage_id and self._get(_CANCEL_ATTEMPT) == attempt

    def _get(self, field: int) -> int:
        return int(struct.unpack_from("=q", self._memory, self._offset + field)[0])

    def _put(self, field: int, value: int) -> None:
        struct.pack_into("=q", self._memory, self._offset + field, value)
