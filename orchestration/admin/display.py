"""HTML and text for the cells of admin pages: statuses, times, links, JSON."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib.admin.utils import quote
from django.db.models import Model
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.timezone import localtime

from orchestration.admin.statuses import STATUSES, Look
from orchestration.text import truncate

EMPTY: Final = "-"
MAX_PREVIEW_CHARACTERS: Final = 100


def status_badge(kind: str, status: str, *, live: str = "", stage: str = "") -> str:
    """Return the sign and the word of a status, in its colour.

    Args:
        kind: A key of `STATUSES`.
        status: The status.
        live: The channel that has the status; a script of the page then updates it.
        stage: The name of the stage, if it is the status of a stage.
    """
    data = {"kind": kind, "status": status, **({"live": live} if live else {}), **({"stage": stage} if stage else {})}
    attributes = format_html_join("", ' data-{}="{}"', data.items())
    return look_badge(STATUSES[kind].get(status) or Look("?", status, "neutral"), attributes)


def look_badge(look: Look, attributes: str = "") -> str:
    """Return a sign and a word in their colour. The sign repeats the meaning of the colour."""
    sign = format_html('<span class="sign" aria-hidden="true">{}</span>', look.sign)
    badge = '<span class="status status-{}"{}>{} <span class="word">{}</span></span>'
    return format_html(badge, look.colour, attributes, sign, look.word)


def format_time(at: datetime | None) -> str:
    """Return a time to the second, in the time zone of the server; its tooltip has all digits."""
    return EMPTY if at is None else _time_element(at, f"{localtime(at):%H:%M:%S}")


def format_time_ms(at: datetime | None) -> str:
    """Return a time to the millisecond, in the time zone of the server; its tooltip has all digits."""
    return EMPTY if at is None else _time_element(at, f"{localtime(at):%H:%M:%S}.{at.microsecond // 1000:03}")


def _time_element(at: datetime, time_of_day: str) -> str:
    local = localtime(at)
    day = f"{local:%b} {local.day}" if local.year == localtime().year else f"{local:%b} {local.day}, {local.year}"
    tooltip = f"{local:%Y-%m-%d %H:%M:%S.%f} {settings.TIME_ZONE} (UTC{local:%z})"
    return format_html(
        '<time class="timestamp" datetime="{}" title="{}">{} <span>{}</span></time>',
        at.isoformat(),
        tooltip,
        day,
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


def id_text(id: str) -> str:
    """Return an id of which a narrow cell shows the beginning. The whole id is copied, and in the tooltip."""
    return format_html('<span class="id" title="{}">{}</span>', id, id)


def clipped(text: str) -> str:
    """Return the beginning of a text on one line, which a narrow cell cuts. The tooltip has more of it."""
    more = truncate(text, 10 * MAX_PREVIEW_CHARACTERS)
    return format_html('<span class="clipped" title="{}">{}</span>', more, preview(text)) if text else ""
