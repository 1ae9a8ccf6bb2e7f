"""List filters that cost at most one short query, however many rows there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from orchestration.admin.statuses import STATUSES
from orchestration.identifiers import is_identifier
from orchestration.models import Pool, WorkerStatus

MAX_POOLS: Final = 50
_MAX_KEY_DIGITS: Final = 18


class BoundedFilter(admin.SimpleListFilter):
    """Filter by one of a bounded list of values, or by another value given in the URL."""

    def values(self) -> Sequence[str]:
        """Return the values to list."""
        raise NotImplementedError

    def is_valid(self, value: str) -> bool:
        """Return whether the database may be queried for `value`; Postgres rejects text with a NUL."""
        raise NotImplementedError

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Return the rows of `queryset` that match `value`."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        values = list(self.values())
        selected = request.GET.get(self.parameter_name or "")
        if selected is not None and selected not in values:
            values.append(selected)
        return [(value, value) for value in values]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        return self.narrow(queryset, value) if self.is_valid(value) else queryset.none()


class WorkflowFilter(BoundedFilter):
    """Filter by the workflow in the URL. Lists no other: there may be any number."""

    title = "workflow"
    parameter_name = "workflow"

    def values(self) -> Sequence[str]:
        return ()

    def is_valid(self, value: str) -> bool:
        return is_identifier(value)

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(workflow=value)


class ItemFilter(BoundedFilter):
    """Filter by the stage in the URL whose items are listed. Lists no other."""

    title = "item of"
    parameter_name = "item_of"

    def values(self) -> Sequence[str]:
        return ()

    def is_valid(self, value: str) -> bool:
        return value.isascii() and value.isdecimal() and len(value) <= _MAX_KEY_DIGITS

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(item_of=int(value))


class ParentFilter(WorkflowFilter):
    """Filter by the workflow in the URL whose sub-runs are listed."""

    title = "sub-runs of"
    parameter_name = "parent"

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(parent=value)


class PoolFilter(BoundedFilter):
    """Filter by pool. Lists the first `MAX_POOLS` pools by id."""

    title = "pool"
    parameter_name = "pool"

    def values(self) -> Sequence[str]:
        return list(Pool.objects.order_by("pk").values_list("pk", flat=True)[:MAX_POOLS])

    def is_valid(self, value: str) -> bool:
        return is_identifier(value)

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(pool=value)


class StatusFilter(BoundedFilter):
    """Filter by status, with the words that badges have."""

    title = "status"
    parameter_name = "status__exact"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        self._looks = STATUSES[model_admin.opts.model_name or ""]
        return [(status, look.word.capitalize()) for status, look in self._looks.items()]

    def is_valid(self, value: str) -> bool:
        return value in self._looks

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(status=value)


class WorkerStatusFilter(StatusFilter):
    """Filter by status. By default, workers that are offline are listed only if they are searched for."""

    ALL: Final = "all"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [*super().lookups(request, model_admin), (self.ALL, "All")]

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        default, *others = super().choices(changelist)
        yield {**default, "display": "Not offline"}
        yield from others

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None and not request.GET.get(SEARCH_VAR):
            return queryset.exclude(status=WorkerStatus.OFFLINE)
        return queryset if self.value() in (None, self.ALL) else super().queryset(request, queryset)
