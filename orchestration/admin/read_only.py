"""Admin pages without editing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.contrib import admin
from django.contrib.admin.options import ShowFacets
from django.db.models import Model, QuerySet
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest, HttpResponse

from orchestration.admin.paginator import BoundedPaginator

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Model]
    _TabularInline = admin.TabularInline[Model, Model]
    _BaseInlineFormSet = BaseInlineFormSet[Model, Model, Any]
else:
    _ModelAdmin = admin.ModelAdmin
    _TabularInline = admin.TabularInline
    _BaseInlineFormSet = BaseInlineFormSet

MAX_INLINE_ROWS: Final = 200
"""How many rows of a related table a page shows."""


class _ReadOnlyMixin:
    """Denies every user the permission to add, change or delete rows."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ReadOnlyAdmin(_ReadOnlyMixin, _ModelAdmin):
    """Lists and detail pages of a model that only services change.

    Every page costs a constant number of queries, and no list counts a whole table.
    """

    change_form_template = "admin/orchestration/change_form.html"

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 50
    actions_selection_counter = True

    class Media:
        css: ClassVar = {"all": ("orchestration/admin.css",)}

    def page_title(self, row: Any) -> str:
        """Return the heading of the page of a row; its id is below."""
        return str(self.opts.verbose_name).capitalize()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        # Django's own heading, "Select workflow to view", names a task that a person does not have.
        title = {"title": str(self.opts.verbose_name_plural).capitalize()}
        return super().changelist_view(request, title | (extra_context or {}))

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        if obj is not None:
            context["title"] = self.page_title(obj)
        return super().render_change_form(request, context, add, change, form_url, obj)


class _BoundedFormSet(_BaseInlineFormSet):
    """Reads only the rows that are shown, and one more to detect truncation."""

    def get_queryset(self) -> QuerySet[Model]:
        if not hasattr(self, "_first_rows"):
            rows = list(super().get_queryset()[: MAX_INLINE_ROWS + 1])
            self.is_truncated = len(rows) > MAX_INLINE_ROWS
            self._first_rows = rows[:MAX_INLINE_ROWS]
        return self._first_rows  # type: ignore[return-value]


class ReadOnlyInline(_ReadOnlyMixin, _TabularInline):
    """A table of related rows on the page of a row: the first `MAX_INLINE_ROWS` of them.

    Attributes:
        list_parameter: The parameter by which the list of these rows is filtered for the row of the page; None if they
            have no list.
    """

    list_parameter: ClassVar[str | None] = None
    formset = _BoundedFormSet
    extra = 0
    can_delete = False
    template = "admin/orchestration/read_only_inline.html"
