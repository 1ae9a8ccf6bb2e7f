"""The admin page that starts a workflow."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from orchestration.admin.row_actions import RowActionsAdmin
from orchestration.sdk import Definition, Run, broken_modules, definitions
from orchestration.sdk.launch import LaunchError, described_parameters, description_of, launch_by_name


class ParamsField(forms.JSONField):
    """A JSON field that rejects deeply nested JSON; Django's field raises RecursionError instead."""

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except RecursionError:
            raise forms.ValidationError("The JSON is nested too deeply.") from None

    def bound_data(self, data: Any, initial: Any) -> Any:
        try:
            return super().bound_data(data, initial)
        except RecursionError:
            return forms.fields.InvalidJSONInput(data)


class StartForm(forms.Form):
    """The parameters of a run."""

    workflow = forms.ChoiceField(widget=forms.Select(attrs={"class": "workflow-choice"}))
    prompt = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField"}))
    params = ParamsField(
        required=False,
        label="Parameters",
        widget=forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField"}),
        help_text='A JSON object such as {"failures": 3}; leave empty for no parameters.',
    )
    pool = forms.CharField(required=False, help_text="Leave empty for the workflow's default pool.")
    key = forms.CharField(
        required=False, help_text="Idempotency key: a second start with the same key returns the existing run."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choice = self.fields["workflow"]
        assert isinstance(choice, forms.ChoiceField)
        choice.choices = [(name, _choice_label(definition)) for name, definition in sorted(definitions().items())]

    def clean_params(self) -> dict[str, Any]:
        params = self.cleaned_data["params"]
        if params is None:
            return {}
        if not isinstance(params, dict):
            raise forms.ValidationError("Enter a JSON object.")
        return params

    def start(self) -> Run | None:
        """Start the workflow. Return None if that failed; the form then shows the error."""
        data = self.cleaned_data
        try:
            return launch_by_name(
                data["workflow"],
                prompt=data["prompt"],
                params=data["params"],
                pool=data["pool"] or None,
                key=data["key"] or None,
            )
        except LaunchError as error:
            self.add_error(None, str(error))
            return None


def start_workflow_view(model_admin: RowActionsAdmin, request: HttpRequest) -> HttpResponse:
    """Show the form; on a valid POST, start the workflow and redirect to its page.

    Raises:
        PermissionDenied: if the user may not change workflows.
    """
    if not model_admin.has_run_action_permission(request):
        raise PermissionDenied
    form = StartForm(request.POST or None)
    if form.is_valid() and (run := form.start()) is not None:
        model_admin.log_addition(request, run.workflow, "Started.")
        messages.success(request, f"Started: {run.workflow_id}.")
        return HttpResponseRedirect(reverse("admin:orchestration_workflow_change", args=[quote(run.workflow_id)]))
    for broken in broken_modules():
        messages.warning(request, f"{broken}.")
    context = {
        **admin.site.each_context(request),
        "title": "Start a workflow",
        "opts": model_admin.opts,
        "form": form,
    }
    return TemplateResponse(request, "admin/orchestration/workflow/start.html", context)


def _choice_label(definition: Definition) -> str:
    parameters = ", ".join(described_parameters(definition))
    return f"{definition.name}({parameters}) {description_of(definition)}".rstrip()
