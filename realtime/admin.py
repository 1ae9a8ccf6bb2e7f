"""The event log in the admin, newest event first, at a cost that does not grow with the log; and the revoked tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AdminSplitDateTime
from django.db.models import Model, Q, QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from orchestration.admin.display import format_time_ms, preformatted, preview, row_link
from orchestration.admin.filters import BoundedFilter
from orchestration.admin.paginator import MAX_LISTED
from orchestration.admin.read_only import ReadOnlyAdmin
from orchestration.identifiers import is_identifier
from orchestration.models import Pool, Worker, Workflow
from realtime.auth.revocation import InvalidRevocation, check_revocation, revoke_token_id, revoke_user
from realtime.events.types import EVENT_TYPES
from realtime.models import Event, EventRoom, Revocation
from realtime.protocol.channels import (
    GLOBAL,
    RESOURCE_TYPES,
    SUMMARY,
    InvalidChannel,
    channel_of,
    check_channel,
    split_channel,
)
from realtime.protocol.payload import first_members, indent_json
from realtime.protocol.requests import MAX_SEQ
from realtime.protocol.summary import LEFT_OUT

if TYPE_CHECKING:
    _RevocationForm = forms.ModelForm[Model]
else:
    _RevocationForm = forms.ModelForm

MAX_SCANNED: Final = 100_000
"""Number of newest events that a search by name or message id reads. Neither column has an index."""

_PREVIEW_CHARACTERS: Final = 300
_IN_OTHER_COLUMNS: Final = frozenset({"timestamp", "workflow_id", "pool_id", "worker_id"})
_MODELS: Final[dict[str, type[Model]]] = {"workflow": Workflow, "pool": Pool, "worker": Worker}


class NameFilter(BoundedFilter):
    """Filter by event name, among the newest `MAX_SCANNED` events."""

    title = f"event, of the newest {MAX_SCANNED:,}"
    parameter_name = "name"

    def values(self) -> Sequence[str]:
        return tuple(EVENT_TYPES)

    def is_valid(self, value: str) -> bool:
        return "\x00" not in value

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(name=value, seq__gt=_first_scanned_seq())


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """The pages of the event log: a list with search by id or channel, and one page per event."""

    list_display = ("seq", "happened_at", "name", "room_links", "data_preview")
    list_display_links = ("seq",)
    list_filter = (NameFilter,)
    list_per_page = 100
    sortable_by = ("seq",)
    ordering = ("-seq",)
    search_fields = ("seq",)  # Enables the search box; `get_search_results` does the search.
    search_help_text = (
        "The id of a workflow, pool or worker, a channel such as workflow:abc123, or the seq or id of an event "
        f"(ids are searched among the newest {MAX_SCANNED:,} events)."
    )
    fields = readonly_fields = ("seq", "message_id", "name", "happened_at", "channels", "indented_data")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # A list shows only the beginning of the data, so the rest is not read.
        data_preview = Left("data", _PREVIEW_CHARACTERS)
        events: QuerySet[Any] = super().get_queryset(request).annotate(data_preview=data_preview)
        return events.defer("data").prefetch_related("rooms")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term == SUMMARY:
            return queryset.exclude(name__in=LEFT_OUT).filter(seq__gt=_first_scanned_seq()), False
        return (queryset if term in ("", GLOBAL) else queryset.filter(_search_condition(term))), False

    def page_title(self, row: Any) -> str:
        return str(row.name)

    @admin.display(description="time")
    def happened_at(self, event: Event) -> str:
        return format_time_ms(event.timestamp)

    @admin.display(description="about")
    def room_links(self, event: Event) -> str:
        rooms = sorted(row.room for row in event.rooms.all())
        return format_html_join(", ", "{}", ((_channel_link(room),) for room in rooms))

    @admin.display(description="channels")
    def channels(self, event: Event) -> str:
        return format_html_join(", ", "{}", ((each,) for each in (self.room_links(event), GLOBAL) if each))

    @admin.display(description="data")
    def data_preview(self, event: Any) -> str:
        members = [each for each in first_members(event.data_preview) if each[0] not in _IN_OTHER_COLUMNS]
        pairs = format_html_join(" ", '<span class="member">{} <code>{}</code></span>', members)
        return format_html('<span class="clipped" title="{}">{}</span>', preview(event.data_preview), pairs)

    @admin.display(description="data")
    def indented_data(self, event: Event) -> str:
        return preformatted(indent_json(event.data))


def _search_condition(term: str) -> Q:
    """Return the condition for a search term. Every part of it uses an index or is bounded."""
    found = Q(pk__in=())
    if re.fullmatch(r"[0-9]{1,19}", term) and int(term) <= MAX_SEQ:
        found |= Q(seq=int(term))
    for channel in _channels_matching(term):
        rows = EventRoom.objects.filter(room=channel).order_by("-event_id").values("event_id")
        found |= Q(seq__in=rows[:MAX_LISTED])
    with suppress(ValueError):  # if `term` is not a UUID
        # Use a separate query: inside the `OR`, the database would compare every event.
        named = Event.objects.filter(message_id=UUID(term), seq__gt=_first_scanned_seq())
        found |= Q(seq__in=list(named.values_list("seq", flat=True)))
    return found


def _channels_matching(term: str) -> list[str]:
    if is_identifier(term):
        return [channel_of(kind, term) for kind in RESOURCE_TYPES]
    try:
        return [check_channel(term)]
    except InvalidChannel:
        return []


def _first_scanned_seq() -> int:
    newest = Event.objects.order_by("-seq").values_list("seq", flat=True).first()
    return (newest or 0) - MAX_SCANNED


def _channel_link(channel: str) -> str:
    """Return a link to the resource of a channel. If it has been deleted, the admin reports that."""
    kind, id = split_channel(channel)
    return row_link(_MODELS[kind], id, channel) if kind in _MODELS else channel


class _LabelledDateTime(AdminSplitDateTime):
    """Names both inputs for screen readers: the label of the field belongs to neither."""

    def __init__(self) -> None:
        super().__init__()
        for widget, part in zip(self.widgets, ("date", "time"), strict=True):
            widget.attrs["aria-label"] = f"Issued before: {part}"


class RevocationForm(_RevocationForm):
    """A new revocation."""

    issued_before = forms.SplitDateTimeField(
        required=False, widget=_LabelledDateTime, help_text="Of a user, revoke tokens issued before; empty: until now."
    )

    class Meta:
        model = Revocation
        fields = ("user_id", "token_id", "issued_before")

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = self.cleaned_data
        user_id, token_id = data.get("user_id", ""), data.get("token_id", "")
        if bool(user_id) == bool(token_id):
            raise forms.ValidationError("Expected either a user or a token id.")
        if token_id and data.get("issued_before"):
            raise forms.ValidationError("A token is revoked by its id alone.")
        try:
            check_revocation(user_id=user_id, token_id=token_id, issued_before=data.get("issued_before"))
        except InvalidRevocation as error:
            raise forms.ValidationError(str(error)) from None
        return data


@admin.register(Revocation)
class RevocationAdmin(ReadOnlyAdmin):
    """The revoked tokens. Users with the permission may add some; none can be taken back."""

    form = RevocationForm
    list_display = ("__str__", "issued_before", "expires_at")
    search_fields = ("user_id", "token_id")

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.has_perm("realtime.add_revocation")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        data = form.cleaned_data
        row = revoke_token_id(obj.token_id) if obj.token_id else revoke_user(obj.user_id, data["issued_before"])
        obj.pk = row.pk
