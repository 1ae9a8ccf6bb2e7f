"""Files that make the stage which reads them wait."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from tests.harness.waiting import wait_until

TIMEOUT_SECONDS = 60


class Gate:
    """A file whose reader waits for its text, as for a slow source, until the test opens the gate.

    Args:
        path: The file, which is a named pipe until then.
        text: What it contains.
    """

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self._writer: int | None = None
        path.unlink(missing_ok=True)
        os.mkfifo(path)

    def wait_for_reader(self) -> None:
        """Wait until a stage reads the file. It then waits for the text."""
        wait_until(self._has_reader, timeout_seconds=TIMEOUT_SECONDS, what=f"a reader of {self._path}")

    def open(self) -> None:
        """Let the reader continue, if it still lives, and give later readers an ordinary file with the same text."""
        assert self._writer is not None, "wait for the reader first"
        ordinary = self._path.with_name(f".{self._path.name}.new")
        ordinary.write_text(self._text)
        ordinary.replace(self._path)
        with contextlib.suppress(BrokenPipeError):
            os.write(self._writer, self._text.encode())
        os.close(self._writer)

    def _has_reader(self) -> bool:
        try:
            self._writer = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return False
        return True
