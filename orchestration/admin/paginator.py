"""Pagination of tables that may have any number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.core.paginator import Paginator
from django.utils.functional import cached_property

if TYPE_CHECKING:
    from django.db.models import Model, QuerySet

    class _Paginator(Paginator[Model]):
        object_list: QuerySet[Model]
else:
    _Paginator = Paginator

MAX_LISTED: Final = 10_000
"""Maximum number of rows in a list, on all of its pages together."""


class BoundedPaginator(_Paginator):
    """Pages of the first `MAX_LISTED` rows. Neither the count nor a page reads further than that."""

    @cached_property
    def count(self) -> int:
        return self.object_list.order_by()[:MAX_LISTED].count()

    @property
    def is_truncated(self) -> bool:
        """Whether there may be rows that are not listed."""
        return self.count == MAX_LISTED
