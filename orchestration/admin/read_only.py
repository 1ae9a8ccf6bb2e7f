"""Pages that show and do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.contrib import admin
from django.contrib.admin.options import ShowFacets
from django.db.models import Model, QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest

from orchestration.admin.paginator import BoundedPaginator

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Model]
    _TabularInline = admin.TabularInline[Model, Model]
    _BaseInlineFormSet = BaseInlineFormSet[Model, Model, Any]
else:
    _ModelAdmin = admin.ModelAdmin
    _TabularInline = admin.TabularInline
    _BaseInlineFormSet = BaseInlineFormSet

MAX_ROWS_INSIDE: Final = 200
"""How many rows of another table a page shows inside."""


class _NotEdited:
    """Nothing is added, changed or deleted here, whoever asks."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ReadOnlyAdmin(_NotEdited, _ModelAdmin):
    """Lists and detail pages of a model that only services change.

    Every page costs a constant number of queries, and no list counts a whole table.
    """

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 50
    actions_selection_counter = True

    class Media:
        css: ClassVar = {"all": ("orchestration/admin.css",)}


class _FirstRows(_BaseInlineFormSet):
    """Reads no more rows than are shown."""

    def get_queryset(self) -> QuerySet[Model]:
        if not hasattr(self, "_first_rows"):
            # One more, to know whether there are more.
            rows = list(super().get_queryset()[: MAX_ROWS_INSIDE + 1])
            self.is_cut = len(rows) > MAX_ROWS_INSIDE
            self._first_rows = rows[:MAX_ROWS_INSIDE]
        return self._first_rows  # type: ignore[return-value]


class ReadOnlyInline(_NotEdited, _TabularInline):
    """Rows of another table inside a page, the first `MAX_ROWS_INSIDE` of them."""

    formset = _FirstRows
    extra = 0
    can_delete = False
    template = "admin/orchestration/rows_inside.html"
