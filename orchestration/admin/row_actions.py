"""Actions on rows. Each is an action of the list and a button on the row's page, and calls a service."""

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

MAX_LISTED_RESULTS: Final = 20
"""How many errors, and how many ids of changed rows, a message lists."""

FROM_PAGE: Final = "_from_page"
"""The form field that marks a button on a row's own page: the response redirects back there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowAction:
    """A button on the page of a row.

    Attributes:
        name: The name of the admin's action method.
        label: The text on the button.
        target_status: The status the action leads to. The button is shown only where that transition is allowed.
        applies: Whether the button is shown on the page of a row, if its status alone does not decide.
    """

    name: str
    label: str
    target_status: str = ""
    applies: Callable[[Any], bool] | None = None

    def is_possible(self, kind: str, row: Any) -> bool:
        """Return whether the page of this row has the button."""
        return self.applies(row) if self.applies else self.target_status in TRANSITIONS[kind][row.status]


class RowActionsAdmin(ReadOnlyAdmin):
    """Read-only pages with actions for users who have the permission to change the model."""

    row_actions: ClassVar[tuple[RowAction, ...]] = ()

    def has_run_action_permission(self, request: HttpRequest) -> bool:
        # `has_change_permission` is always False here, because True would make the pages editable.
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
        context["row_actions"] = [
            action
            for action in self.row_actions
            if self.has_run_action_permission(request) and action.is_possible(self.opts.model_name or "", obj)
        ]
        return super().render_change_form(request, context, add, change, form_url, obj)

    def run_action(
        self, request: HttpRequest, rows: QuerySet[Any], service: Callable[[str], Model], *, done: str
    ) -> HttpResponse | None:
        """Call `service` with the id of each row, one transaction per row, and show the results as messages.

        Args:
            request: The request of the admin action.
            rows: The selected rows.
            service: Changes the row with this id and returns it.
            done: The result for rows that were changed, such as `Cancelled`.

        Returns:
            A redirect to the row's page if its button was pressed there; else None, for the list.
        """
        ids: list[str] = list(rows.values_list("pk", flat=True))
        succeeded: list[str] = []
        errors: list[str] = []
        for id in ids:
            try:
                row = service(id)
            except ServiceError as error:
                errors.append(str(error))
            else:
                succeeded.append(id)
                self.log_change(request, row, f"{done}.")
        if succeeded:
            messages.success(request, f"{done}: {_join_first(succeeded, separator=', ')}.")
        if errors:
            messages.error(request, f"Refused: {_join_first(errors, separator=' ')}")
        if FROM_PAGE not in request.POST or len(ids) != 1:
            return None
        url = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return HttpResponseRedirect(reverse(url, args=[quote(ids[0])]))


def _join_first(items: Iterable[str], *, separator: str) -> str:
    first, rest = (items := list(items))[:MAX_LISTED_RESULTS], len(items) - MAX_LISTED_RESULTS
    return separator.join([*first, f"and {rest} more"] if rest > 0 else first)
