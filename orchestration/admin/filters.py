"""Filters beside the lists that cost one short query, however many rows there are."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from orchestration.identifiers import is_identifier
from orchestration.models import Pool

MAX_POOLS: Final = 50


class PoolFilter(admin.SimpleListFilter):
    """By pool: the first of them by id, and the one that is chosen."""

    title = "pool"
    parameter_name = "pool"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        ids = list(Pool.objects.order_by("pk").values_list("pk", flat=True)[:MAX_POOLS])
        chosen = request.GET.get(self.parameter_name)
        if chosen is not None and chosen not in ids:
            ids.append(chosen)
        return [(id, id) for id in ids]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        # A database may not even be asked for anything else: Postgres takes no NUL.
        return queryset.filter(pool=value) if is_identifier(value) else queryset.none()
