"""The event log in the admin: what was announced, newest first. Every page is as cheap with a million events."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from django.contrib import admin
from django.db.models import Model, Q, QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from orchestration.admin.formatting import exact_moment, link, preformatted, shortened
from orchestration.admin.paginator import MAX_LISTED
from orchestration.admin.read_only import ReadOnlyAdmin
from orchestration.models import Pool, Worker, Workflow
from realtime.events.types import EVENT_TYPES
from realtime.models import Event, EventRoom
from realtime.protocol.channels import (
    GLOBAL,
    ID_PATTERN,
    RESOURCE_TYPES,
    InvalidChannel,
    channel_of,
    check_channel,
    split_channel,
)
from realtime.protocol.payload import indented
from realtime.protocol.requests import MAX_SEQ

MAX_SCANNED: Final = 100_000
"""How far back, in events, is looked for what no index finds: the name of an event, and its id."""

_PREVIEW_CHARACTERS: Final = 300
_IN_OTHER_COLUMNS: Final = re.compile(r'"(timestamp|workflow_id|pool_id|worker_id)":"[^"]*",?')
_MODELS: Final[dict[str, type[Model]]] = {"workflow": Workflow, "pool": Pool, "worker": Worker}


class NameFilter(admin.SimpleListFilter):
    """By name, among the newest events."""

    title = f"event, of the newest {MAX_SCANNED:,}"
    parameter_name = "name"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        names = [*EVENT_TYPES]
        chosen = request.GET.get(self.parameter_name)
        if chosen is not None and chosen not in EVENT_TYPES:
            names.append(chosen)
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        # Postgres may not even be asked for a name with a NUL.
        return queryset.none() if "\x00" in value else queryset.filter(name=value, seq__gt=_scanned_from())


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("seq", "happened", "name", "rooms_listed", "beginning")
    list_display_links = ("seq",)
    list_filter = (NameFilter,)
    list_per_page = 100
    sortable_by = ("seq",)
    ordering = ("-seq",)
    search_fields = ("seq",)  # There has to be one; `get_search_results` does the work.
    search_help_text = (
        "The id of a workflow, pool or worker, or a channel such as workflow:abc123; "
        "or an event's seq or id (by id, of the newest "
        f"{MAX_SCANNED:,})."
    )
    fields = readonly_fields = ("seq", "message_id", "name", "happened", "channels", "indented_data")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # Of a list, only the beginning of the data is read.
        beginning = Left("data", _PREVIEW_CHARACTERS)
        events: QuerySet[Any] = super().get_queryset(request).annotate(beginning=beginning)
        return events.defer("data").prefetch_related("rooms")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        return (queryset if term in ("", GLOBAL) else queryset.filter(_found_by(term))), False

    @admin.display(description="timestamp")
    def happened(self, event: Event) -> str:
        return exact_moment(event.timestamp)

    @admin.display(description="channels besides global")
    def rooms_listed(self, event: Event) -> str:
        rooms = sorted(row.room for row in event.rooms.all())
        return format_html_join(", ", "{}", ((_channel_link(room),) for room in rooms))

    @admin.display(description="channels")
    def channels(self, event: Event) -> str:
        return format_html_join(", ", "{}", ((each,) for each in (self.rooms_listed(event), GLOBAL) if each))

    @admin.display(description="data")
    def beginning(self, event: Any) -> str:
        return format_html("<code>{}</code>", shortened(_IN_OTHER_COLUMNS.sub("", event.beginning)))

    @admin.display(description="data")
    def indented_data(self, event: Event) -> str:
        return preformatted(indented(event.data))


def _found_by(term: str) -> Q:
    """What a search for one word finds; each way to find it has an index or is bounded."""
    found = Q(pk__in=())
    if re.fullmatch(r"[0-9]{1,19}", term) and int(term) <= MAX_SEQ:
        found |= Q(seq=int(term))
    for channel in _channels_named(term):
        rows = EventRoom.objects.filter(room=channel).order_by("-event_id").values("event_id")
        found |= Q(seq__in=rows[:MAX_LISTED])
    with suppress(ValueError):  # if it is no event's id
        # Looked up here: as a part of the `OR` it would be compared with every event there is.
        named = Event.objects.filter(message_id=UUID(term), seq__gt=_scanned_from())
        found |= Q(seq__in=list(named.values_list("seq", flat=True)))
    return found


def _channels_named(term: str) -> list[str]:
    if re.fullmatch(ID_PATTERN, term):
        return [channel_of(kind, term) for kind in RESOURCE_TYPES]
    try:
        return [check_channel(term)]
    except InvalidChannel:
        return []


def _scanned_from() -> int:
    newest = Event.objects.order_by("-seq").values_list("seq", flat=True).first()
    return (newest or 0) - MAX_SCANNED


def _channel_link(channel: str) -> str:
    """A link to what a channel is about; it may be gone, and then the admin says so."""
    kind, id = split_channel(channel)
    return link(_MODELS[kind], id, channel) if kind in _MODELS else channel
