"""What `manage.py watch` shows of an event on a terminal: one row. The signs and words are those of the pages."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

from rich.text import Text

from orchestration.text import escape_line, truncate
from realtime.management.run_lines import answer_command, counts_of_items
from realtime.protocol.messages import EventRecord
from realtime.protocol.payload import decode_object, encode_data

_MAX_DETAIL_CHARACTERS: Final = 300
_WORD_CHARACTERS: Final = 18
_NARROW_ID_CHARACTERS: Final = 9
_NARROW_COLUMNS: Final = 120


class Look(NamedTuple):
    """A sign in Unicode, the same in ASCII, and a style of rich."""

    sign: str
    ascii_sign: str
    style: str


_FAILURE: Final = "bold red"
_NEUTRAL: Final = Look("·", ".", "")
_LOOKS: Final = {
    "completed": Look("✓", "+", "green"),
    "idle": Look("✓", "+", "green"),
    "failed": Look("✕", "x", _FAILURE),
    "error": Look("✕", "x", _FAILURE),
    "timed out": Look("⏱", "x", _FAILURE),
    "cancelled": Look("⊘", "-", "magenta"),
    "retrying": Look("!", "!", "yellow"),
    "held": Look("!", "!", "yellow"),
    "draining": Look("!", "!", "yellow"),
    "drained": Look("!", "!", "yellow"),
    "released": Look("!", "!", "yellow"),
    "queued": Look("↻", "~", "yellow"),
    "started": Look("◐", ">", "cyan"),
    "busy": Look("◐", ">", "cyan"),
    "offline": Look("⌀", "o", "dim"),
    "waiting": Look("?", "?", "yellow"),
    "expired": Look("⏱", "x", "yellow"),
    "answered": Look("✓", "+", "green"),
    "skipped": Look("⊘", "-", "dim"),
    "added": Look("+", "+", ""),
    "log": Look(" ", " ", "dim"),
    "progress": Look(" ", " ", "dim"),
}
"""By the last words of what happened."""

_ABOUT: Final = {"workflow": "workflow_id", "worker": "worker_id", "pool": "pool_id"}
_REASONS: Final = ("error", "reason", "message", "needs", "prompt")


class EventRow(NamedTuple):
    """One event as a row. All texts are escaped."""

    time: str
    word: str
    about: str
    detail: str
    look: Look

    @property
    def is_failure(self) -> bool:
        """Whether it is about a failure."""
        return self.look.style == _FAILURE

    def render(self, *, ascii_only: bool, columns: int) -> Text:
        """Return the row as text. With few columns, ids are shortened, as on the pages."""
        about = self.about if columns >= _NARROW_COLUMNS else self.about[:_NARROW_ID_CHARACTERS]
        sign = self.look.ascii_sign if ascii_only else self.look.sign
        word = Text(f"{sign} {self.word:{_WORD_CHARACTERS}}", style=self.look.style)
        # A failure is red as a whole; other rows are readable without their colour.
        detail = Text(self.detail, style=self.look.style if self.is_failure else "")
        return Text(" ").join([Text(self.time, style="dim"), word, Text(about), detail])


def event_row(event: EventRecord, *, local_time: datetime) -> EventRow:
    """Return the row of an event.

    Args:
        event: The event.
        local_time: Its timestamp in the time zone of the reader.
    """
    data = decode_object(event.data)
    resource, _, change = event.name.partition(".")
    about = data.get(_ABOUT.get(resource, ""))
    word = _word(resource, change, data)
    look = next((look for end, look in _LOOKS.items() if word.endswith(end)), _NEUTRAL)
    if resource in _ABOUT:
        detail = " - ".join(_details(resource, change, data))
    else:
        word, detail = event.name, encode_data(data)
    return EventRow(
        time=local_time.strftime("%H:%M:%S.") + str(local_time.microsecond // 100_000),
        word=escape_line(word),
        about=escape_line(str(about or "-")),
        detail=escape_line(truncate(detail, _MAX_DETAIL_CHARACTERS)),
        look=look,
    )


def _word(resource: str, change: str, data: dict[str, Any]) -> str:
    status = data.get("status")
    if change == "failed" and status == "timeout":
        return f"{resource} timed out"
    if change in ("status_changed", "added", "stage_status_changed") and isinstance(status, str):
        return f"{'stage' if change.startswith('stage_') else resource} {status}"
    words = change.replace("_", " ")
    return words if resource == "workflow" and words.startswith("stage") else f"{resource} {words}"


def _details(resource: str, change: str, data: dict[str, Any]) -> list[str]:
    if resource == "pool":
        metrics = data.get("status")
        shown = metrics.items() if isinstance(metrics, dict) else ()
        return [f"{name.removeprefix('tasks_').replace('_', ' ')} {value}" for name, value in shown if value]
    found: list[str] = []
    if resource == "workflow" and data.get("name"):
        found.append(str(data["name"]))
    if data.get("stage_name"):
        found.append(str(data["stage_name"]))
    if data.get("stream_name"):
        found.append(str(data["stream_name"]))
    if change == "stages_queued":
        names = data.get("stages")
        found.append(", ".join(map(str, names)) if isinstance(names, list) else f"{data.get('count')} stages")
    if change == "waiting":
        found += [{"signal": f"signal {data.get('wait_name')}", "sleep": "sleeps"}.get(str(data.get("kind")), "asks")]
        found += [str(data["title"])] if data.get("title") else []
        if data.get("kind") == "ask":
            found.append(answer_command(str(data.get("workflow_id")), str(data.get("wait_name"))))
    if change == "wait_answered" and data.get("by"):
        found.append(f"by {data['by']}")
    if change.startswith("map_"):
        found.append(counts_of_items(data))
    if data.get("parent_id"):
        found.append(f"sub-run of {data['parent_id']}")
    if change == "stage_progress":
        found.append(f"{float(data.get('progress') or 0):.0%}")
    duration_ms = data.get("duration_ms")
    if duration_ms is None and isinstance(result := data.get("result"), dict):
        duration_ms = result.get("total_duration_ms")
    if isinstance(duration_ms, int):
        found.append(_duration(duration_ms))
    found += [str(data[name]) for name in _REASONS if data.get(name)][:1]
    if resource == "workflow" and data.get("worker_id"):
        found.append(str(data["worker_id"]))
    elif data.get("pool_id"):
        found.append(f"pool {data['pool_id']}")
    return found


def _duration(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"
