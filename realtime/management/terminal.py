"""What commands show on a terminal: lines, and below them one line of progress that is drawn again and again.

Rich obeys `NO_COLOR`, `TERM=dumb` and the width of the terminal. In an encoding without Unicode it draws in ASCII.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn
from rich.table import Column
from rich.text import Text

from orchestration.management.output import EscapedOutput
from orchestration.text import escape_line


def console_on(stream: TextIO) -> Console:
    """Return a console that writes to `stream`, with colours if that is a terminal. No text is markup."""
    is_terminal = stream.isatty()
    return Console(
        file=stream,
        # Given, because rich would otherwise believe FORCE_COLOR that a file is a terminal.
        force_terminal=is_terminal,
        markup=False,
        emoji=False,
        highlight=False,
    )


def is_ascii_only(stream: TextIO) -> bool:
    """Return whether the encoding of `stream` lacks the signs of Unicode."""
    return not (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")


class ProgressLine:
    """Shows progress below the lines of a command. Without a terminal, it writes the lines only.

    Args:
        out: Receives the lines. If it is a terminal, the progress is shown there too.
        err: Otherwise shows the progress, if it is a terminal.
        columns: The columns of the progress.
        total: How much there is to do, if known.
    """

    def __init__(
        self, out: EscapedOutput, err: EscapedOutput, *columns: ProgressColumn, total: float | None = None
    ) -> None:
        self._out = out
        self._console = console_on(out.stream if out.isatty() else err.stream)
        self.is_shown = self._console.is_terminal and not self._console.is_dumb_terminal
        self._progress = Progress(
            *columns,
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self.is_shown,
        )
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def draw(self, *, completed: float, **fields: Any) -> None:
        """Draw the progress; `fields` are the further fields of the columns."""
        if self.is_shown:
            self._progress.update(self._task, completed=completed, refresh=True, **fields)

    def write(self, line: str) -> None:
        """Write exactly one line, so that no workflow can write a line that looks like ours."""
        if self.is_shown and self._out.isatty():
            # The terminal wraps a long line, so that a copy of it is one line too.
            self._console.print(Text(escape_line(line)), soft_wrap=True)
        else:
            self._out.write(escape_line(line))
            self._out.flush()


def progress_bar() -> ProgressColumn:
    """Return a bar in the colour of success: rich's own looks like that of a failure."""
    return BarColumn(bar_width=30, complete_style="green", finished_style="green", pulse_style="green")


class TextOfField(ProgressColumn):
    """A column that shows a field of `ProgressLine.draw` on one line, cut at the width of the terminal."""

    def __init__(self, field: str) -> None:
        super().__init__(Column(no_wrap=True, overflow="crop"))
        self._field = field

    def render(self, task: Any) -> Text:
        """Return the text of the field."""
        return Text(escape_line(str(task.fields.get(self._field, ""))))
