"""Pages of a table that may have any number of rows: what does not fit on the pages is not even counted."""

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


class BoundedPaginator(_Paginator):
    """Lists the first `MAX_LISTED` rows at most: no page is far to skip to, and no count is long."""

    @cached_property
    def count(self) -> int:
        return self.object_list.order_by()[:MAX_LISTED].count()

    @property
    def is_cut(self) -> bool:
        """Whether there may be more than what is listed."""
        return self.count == MAX_LISTED
