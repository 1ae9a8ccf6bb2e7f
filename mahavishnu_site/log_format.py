"""The format of log lines: a record begins a line, and nothing that a client or a workflow wrote can begin another."""

from __future__ import annotations

import logging

from orchestration.text import escape_line

CONTINUATION_PREFIX = "  | "
"""Begins every line of a traceback. A line without it is the first line of a record."""


class EscapingFormatter(logging.Formatter):
    """Writes a record on one line, and below it the lines of its traceback, each with `CONTINUATION_PREFIX`.

    Hidden characters are escapes (`orchestration.text`). Otherwise a message could contain another line of the log, or
    control the terminal of who reads it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record, without a line break at the end."""
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        below = [each for each in (record.exc_text, record.stack_info) if each]
        lines = [escape_line(line) for each in below for line in each.rstrip("\n").split("\n")]
        return f"\n{CONTINUATION_PREFIX}".join([escape_line(self.formatMessage(record)), *lines])
