"""What an operator can do in the admin: each is an action of the lists and a button of the pages, done by a service."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from django.contrib import messages
from django.contrib.admin.utils import quote
from django.contrib.auth import get_permission_codename
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from orchestration.admin.read_only import ReadOnlyAdmin
from orchestration.services import ServiceError
from orchestration.services.transitions import TRANSITIONS

MAX_MESSAGES: Final = 20
"""How many refusals are told one by one, and how many ids of what succeeded."""

FROM_PAGE: Final = "_from_page"
"""The field of a form that says that a button of a row's own page was pressed: that is where to return to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that can be done with a row.

    Attributes:
        action: The name of the admin's method.
        label: What the button says.
        status: What the row becomes: the button is there only if that may follow what it is.
    """

    action: str
    label: str
    status: str


class OperatedAdmin(ReadOnlyAdmin):
    """Pages that show, with operations for those who have the permission to change the model."""

    operations: ClassVar[tuple[Operation, ...]] = ()
    change_form_template = "admin/orchestration/change_form.html"

    def has_operate_permission(self, request: HttpRequest) -> bool:
        codename = get_permission_codename("change", self.opts)
        allowed: bool = request.user.has_perm(f"{self.opts.app_label}.{codename}")
        return allowed

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        context["from_page"] = FROM_PAGE
        context["operations"] = [
            operation
            for operation in self.operations
            if self.has_operate_permission(request)
            and operation.status in TRANSITIONS[self.opts.model_name or ""][obj.status]
        ]
        return super().render_change_form(request, context, add, change, form_url, obj)

    def operate(
        self, request: HttpRequest, rows: QuerySet[Any], service: Callable[[str], Model], *, done: str
    ) -> HttpResponse | None:
        """Call `service` with the id of each row, each in a transaction of its own, and tell the operator.

        Args:
            done: What happened to those that succeeded: `Cancelled`.
        """
        ids: list[str] = list(rows.values_list("pk", flat=True))
        succeeded: list[str] = []
        refused: list[str] = []
        for id in ids:
            try:
                row = service(id)
            except ServiceError as refusal:
                refused.append(str(refusal))
            else:
                succeeded.append(id)
                self.log_change(request, row, f"{done}.")
        if succeeded:
            messages.success(request, f"{done}: {_listed(succeeded, separator=', ')}.")
        if refused:
            messages.error(request, f"Refused: {_listed(refused, separator=' ')}")
        if FROM_PAGE not in request.POST or len(ids) != 1:
            return None
        url = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return HttpResponseRedirect(reverse(url, args=[quote(ids[0])]))


def _listed(items: Iterable[str], *, separator: str) -> str:
    first, rest = (items := list(items))[:MAX_MESSAGES], len(items) - MAX_MESSAGES
    return separator.join([*first, f"and {rest} more"] if rest > 0 else first)
