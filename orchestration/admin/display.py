"""HTML and text for the cells of admin pages: statuses, times, links, JSON."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.admin.utils import quote
from django.db.models import Model
from django.urls import reverse
from django.utils.html import format_html
from django.utils.timezone import localtime

from orchestration.models import PoolStatus, StageStatus, WorkerStatus, WorkflowStatus
from orchestration.text import truncate

EMPTY: Final = "-"
MAX_PREVIEW_CHARACTERS: Final = 100

# The badge's text and symbol repeat the meaning of its colour, for users who cannot distinguish the colours.
_BADGE_STYLES: Final[dict[str, str]] = {
    WorkflowStatus.PENDING: "pending",
    WorkflowStatus.RUNNING: "active",
    WorkflowStatus.COMPLETED: "success",
    WorkflowStatus.FAILED: "failure",
    WorkflowStatus.CANCELLED: "inactive",
    WorkflowStatus.TIMEOUT: "failure",
    StageStatus.QUEUED: "pending",
    StageStatus.SKIPPED: "inactive",
    WorkerStatus.IDLE: "success",
    WorkerStatus.BUSY: "active",
    WorkerStatus.ERROR: "failure",
    WorkerStatus.OFFLINE: "inactive",
    PoolStatus.ACTIVE: "success",
    PoolStatus.DRAINING: "warning",
    PoolStatus.CLOSED: "inactive",
    "held": "warning",
}


def status_badge(status: str) -> str:
    """Return the status as a coloured label."""
    return format_html('<span class="status status-{}">{}</span>', _BADGE_STYLES.get(status, "inactive"), status)


def format_time(at: datetime | None) -> str:
    """Return a time to the second, in the local time zone; its tooltip has all digits."""
    return EMPTY if at is None else _time_element(at, f"{localtime(at):%H:%M:%S}")


def format_time_ms(at: datetime) -> str:
    """Return a time to the millisecond, in the local time zone; its tooltip has all digits."""
    return _time_element(at, f"{localtime(at):%H:%M:%S}.{at.microsecond // 1000:03}")


def _time_element(at: datetime, time_of_day: str) -> str:
    # Two spans: a narrow cell breaks the line only between date and time.
    return format_html(
        '<time class="timestamp" datetime="{}" title="{}"><span>{}</span> <span>{}</span></time>',
        at.isoformat(),
        at.isoformat(),
        localtime(at).date().isoformat(),
        time_of_day,
    )


def format_elapsed(start: datetime | None, end: datetime | None) -> str:
    """Return the time from `start` to `end`, in milliseconds or seconds."""
    return EMPTY if start is None or end is None else format_duration((end - start) // timedelta(milliseconds=1))


def format_duration(duration_ms: int | None) -> str:
    """Return a duration in milliseconds, or in seconds if it is at least one second."""
    if duration_ms is None:
        return EMPTY
    return f"{duration_ms} ms" if duration_ms < 1000 else f"{duration_ms / 1000:,.1f} s"


def row_link(model: type[Model], pk: Any, text: str | None = None) -> str:
    """Return a link to the page of a row, without reading the row."""
    if pk is None:
        return EMPTY
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[quote(pk)])
    return format_html('<a href="{}">{}</a>', url, text or pk)


def format_json(value: Any) -> str:
    """Return JSON with indentation; long values scroll."""
    if value is None:
        return EMPTY
    return preformatted(json.dumps(value, indent=2, ensure_ascii=False))


def preformatted(text: str) -> str:
    """Return text that keeps its line breaks, such as a traceback."""
    return format_html('<pre class="preformatted" tabindex="0">{}</pre>', text) if text else EMPTY


def preview(text: str) -> str:
    """Return the beginning of a text on one line."""
    line = " ".join(text[: 4 * MAX_PREVIEW_CHARACTERS].split())
    return truncate(line, MAX_PREVIEW_CHARACTERS)
