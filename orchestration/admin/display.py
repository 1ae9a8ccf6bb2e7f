"""What a cell of an admin page shows: a status, a moment, a link, some JSON."""

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

NOTHING: Final = "-"
MAX_SHORT_CHARACTERS: Final = 100

# How a status is coloured. A word and a sign say the same, for those who see no difference in the colours.
_TONES: Final[dict[str, str]] = {
    WorkflowStatus.PENDING: "waits",
    WorkflowStatus.RUNNING: "works",
    WorkflowStatus.COMPLETED: "good",
    WorkflowStatus.FAILED: "bad",
    WorkflowStatus.CANCELLED: "over",
    WorkflowStatus.TIMEOUT: "bad",
    StageStatus.QUEUED: "waits",
    StageStatus.SKIPPED: "over",
    WorkerStatus.IDLE: "good",
    WorkerStatus.BUSY: "works",
    WorkerStatus.ERROR: "bad",
    WorkerStatus.OFFLINE: "over",
    PoolStatus.ACTIVE: "good",
    PoolStatus.DRAINING: "warns",
    PoolStatus.CLOSED: "over",
}


def badge(status: str) -> str:
    """A status, coloured."""
    return format_html('<span class="status status-{}">{}</span>', _TONES.get(status, "over"), status)


def moment(at: datetime | None) -> str:
    """A point in time to the second; pointing at it shows the rest."""
    return NOTHING if at is None else _time(at, f"{localtime(at):%H:%M:%S}")


def exact_moment(at: datetime) -> str:
    """A point in time to the millisecond."""
    return _time(at, f"{localtime(at):%H:%M:%S}.{at.microsecond // 1000:03}")


def _time(at: datetime, shown: str) -> str:
    # A narrow cell may break the line between the two.
    return format_html(
        '<time class="moment" datetime="{}" title="{}"><span>{}</span> <span>{}</span></time>',
        at.isoformat(),
        at.isoformat(),
        localtime(at).date().isoformat(),
        shown,
    )


def span(start: datetime | None, end: datetime | None) -> str:
    """How long something took."""
    return NOTHING if start is None or end is None else milliseconds((end - start) // timedelta(milliseconds=1))


def milliseconds(duration_ms: int | None) -> str:
    """How long something took."""
    if duration_ms is None:
        return NOTHING
    return f"{duration_ms} ms" if duration_ms < 1000 else f"{duration_ms / 1000:,.1f} s"


def link(model: type[Model], pk: Any, text: str | None = None) -> str:
    """A link to the page of a row, which is not read for it."""
    if pk is None:
        return NOTHING
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[quote(pk)])
    return format_html('<a href="{}">{}</a>', url, text or pk)


def indented_json(value: Any) -> str:
    """JSON as a person reads it; long values scroll."""
    if value is None:
        return NOTHING
    return preformatted(json.dumps(value, indent=2, ensure_ascii=False))


def preformatted(text: str) -> str:
    """Text whose lines stay as they are, such as a traceback."""
    return format_html('<pre class="preformatted" tabindex="0">{}</pre>', text) if text else NOTHING


def shortened(text: str) -> str:
    """The beginning of a text, in one line."""
    words = " ".join(text[: 4 * MAX_SHORT_CHARACTERS].split())
    return words if len(words) <= MAX_SHORT_CHARACTERS else f"{words[:MAX_SHORT_CHARACTERS]}…"
