"""The table of slots that one worker process shares with its children and its supervisor: what each slot runs.

It is a small file without a name that each process maps into memory. So a read costs no system call, the table lasts
as long as one of the processes, and nothing can remove it. Each field has one writer at a time: of those that a child
writes, the supervisor clears some after it has died. A child writes its attempt before it claims the attempt, and
clears it at the end.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import time
from typing import Final, NamedTuple, Self

from orchestration.identifiers import MAX_IDENTIFIER_LENGTH

MAX_SLOTS: Final = 512
TABLE_DESCRIPTOR: Final = 3
"""The file descriptor of the table in a supervisor."""

_MAX_ID_BYTES: Final = MAX_IDENTIFIER_LENGTH  # Ids are ASCII.


class RunningAttempt(NamedTuple):
    """The attempt that a slot runs.

    Attributes:
        stage_id: The primary key of the stage.
        attempt: The number of the attempt.
        started_ns: When it started, by the machine's monotonic clock.
        timeout_ms: Its time limit; 0 for none.
        pid: The process that runs it. Another one may fill the slot by the time that this is read.
    """

    stage_id: int
    attempt: int
    started_ns: int
    timeout_ms: int
    pid: int


class SharedSlot(ctypes.Structure):
    """One slot of the table: a view of shared memory.

    Attributes:
        pid: The child that fills the slot; 0 for none. Written by the child, or cleared after it has died.
        process_group: A process group that the stage started, separate from the child's; 0 for none. Written by the
            child, or cleared after it has died.
        must_replace: Whether the child may run no further attempt; the supervisor then ends it. Written by the child.
    """

    _fields_ = (
        ("pid", ctypes.c_int64),
        ("process_group", ctypes.c_int64),
        ("must_replace", ctypes.c_bool),
        ("_stage_id", ctypes.c_int64),
        ("_attempt", ctypes.c_int64),
        ("_started_ns", ctypes.c_int64),
        ("_timeout_ms", ctypes.c_int64),
        ("_running_pid", ctypes.c_int64),
        ("_cancelled_stage_id", ctypes.c_int64),
        ("_cancelled_attempt", ctypes.c_int64),
        ("_worker_id_bytes", ctypes.c_int64),
        ("_worker_id", ctypes.c_char * _MAX_ID_BYTES),
    )

    pid: int
    process_group: int
    must_replace: bool

    @property
    def running(self) -> RunningAttempt | None:
        """What the slot runs. Written by the child, or by the supervisor after the child has died."""
        if not (stage_id := self._stage_id):
            return None
        return RunningAttempt(stage_id, self._attempt, self._started_ns, self._timeout_ms, self._running_pid)

    @running.setter
    def running(self, value: RunningAttempt | None) -> None:
        self._stage_id = 0
        if value is not None:
            self._attempt = value.attempt
            self._started_ns = value.started_ns
            self._timeout_ms = value.timeout_ms
            self._running_pid = value.pid
            self._stage_id = value.stage_id  # Set last: it marks the other fields as valid.

    @property
    def worker_id(self) -> str:
        """The worker that is registered for the slot; empty for none. Written by the supervisor."""
        return bytes(self._worker_id[: self._worker_id_bytes]).decode("ascii")

    @worker_id.setter
    def worker_id(self, value: str) -> None:
        encoded = value.encode("ascii")
        if len(encoded) > _MAX_ID_BYTES:
            raise ValueError(f"{value!r}: expected at most {_MAX_ID_BYTES} characters")
        self._worker_id_bytes = 0
        self._worker_id = encoded
        self._worker_id_bytes = len(encoded)  # Set last: it marks the characters as valid.

    def lift_time_limit(self) -> None:
        """Exempt the attempt from its time limit: its stage has ended. Called by the child."""
        self._timeout_ms = 0

    def request_cancel(self, running: RunningAttempt) -> None:
        """Ask the child to end this attempt. Called by the supervisor."""
        self._cancelled_attempt = running.attempt
        self._cancelled_stage_id = running.stage_id

    def is_cancelled(self, stage_id: int, attempt: int) -> bool:
        """Return whether the supervisor requested the end of this attempt."""
        return bool(self._cancelled_stage_id == stage_id and self._cancelled_attempt == attempt)

    def track_process_group(self, pid: int) -> None:
        """Have the supervisor kill this process group if the child dies; 0 clears it. Called by the child."""
        self.process_group = pid


class SlotTable(ctypes.Structure):
    """The shared table; `create` and `open` return one.

    Attributes:
        size: How many slots the process has. Written by the process.
        stopping_since_ns: When a shutdown was requested, by the monotonic clock; 0 if not. Written by the process.
        has_stopped: Whether the process has stopped its children. It exits now, or replaces itself by a new worker with
            another table. Written by the process.
        draining: Whether no new stage may start, although no shutdown was requested. Written by the supervisor.
        descriptor: Of the file. Open while the table is in use.
    """

    _fields_ = (
        ("size", ctypes.c_int64),
        ("stopping_since_ns", ctypes.c_int64),
        ("has_stopped", ctypes.c_bool),
        ("draining", ctypes.c_bool),
        ("_slots", SharedSlot * MAX_SLOTS),
    )

    size: int
    stopping_since_ns: int
    has_stopped: bool
    draining: bool
    descriptor: int

    @classmethod
    def create(cls) -> Self:
        """Make an empty table.

        Raises:
            OSError: if no temporary file can be written.
        """
        descriptor, path = tempfile.mkstemp(prefix="mahavishnu-slots-")
        os.unlink(path)
        os.ftruncate(descriptor, ctypes.sizeof(cls))
        return cls.open(descriptor)

    @classmethod
    def open(cls, descriptor: int) -> Self:
        """Map the table of another process into memory, by its open file."""
        table = cls.from_buffer(mmap.mmap(descriptor, ctypes.sizeof(cls)))
        table.descriptor = descriptor
        return table

    @property
    def stopping_seconds(self) -> float:
        """How long ago a shutdown was requested; 0 if it was not."""
        since_ns = self.stopping_since_ns
        return (time.monotonic_ns() - since_ns) / 1e9 if since_ns else 0.0

    def slot(self, index: int) -> SharedSlot:
        """Return the slot of this index.

        Raises:
            IndexError: if it is not from 0 to `MAX_SLOTS` - 1.
        """
        if not 0 <= index < MAX_SLOTS:
            raise IndexError(f"slot {index}: expected 0 to {MAX_SLOTS - 1}")
        slot: SharedSlot = self._slots[index]
        return slot
