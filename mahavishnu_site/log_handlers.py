"""Log handlers that lose a line rather than the work when their file cannot be written: a full disk, a closed pipe."""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import TextIO


class UnwritableFileMixin(logging.Handler):
    """Drops a line that the operating system does not accept.

    `logging` would print a traceback for each line, to a file that is often full or closed too. Other errors are bugs
    in the logging call, and are reported as usual.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the name is logging's)
        """Handle the exception that was raised while the record was written."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


class ConsoleHandler(UnwritableFileMixin, logging.StreamHandler[TextIO]):
    """Writes to standard error, without a buffer.

    A buffer would keep the lines of a full disk, and the exit code of the process would be 120 because they could not
    be written at its end.
    """

    def __init__(self) -> None:
        super().__init__(_unbuffered(sys.stderr))


def _unbuffered(stream: TextIO | None) -> TextIO:
    """Return a stream that writes to the same file at once; one that writes nothing if the file is closed."""
    try:
        descriptor = -1 if stream is None else stream.fileno()
    except (OSError, ValueError):
        descriptor = -1  # Not a file: a test has replaced the stream.
    if stream is not None and descriptor < 0:
        return stream
    raw = io.FileIO(os.devnull if descriptor < 0 else descriptor, "w", closefd=descriptor < 0)
    # `TextIOWrapper` accepts a raw file, and does not buffer then.
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)
