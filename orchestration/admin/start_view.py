"""The admin pages that start a workflow: a list of those that can be started, and a form for one of them."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from orchestration.admin.parameter_fields import PREFIX, ParameterField, parameter_fields
from orchestration.admin.row_actions import RowActionsAdmin
from orchestration.sdk import Definition, Run, broken_modules, definitions
from orchestration.sdk.launch import LaunchError, described_parameters, description_of, launch_by_name
from orchestration.sdk.parameter_schema import parameters_schema
from orchestration.sdk.parameters import InvalidParameter

WORKFLOW: Final = "workflow"
"""The parameter of the URL that names the workflow to start."""


class OtherParametersField(forms.JSONField):
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

    def prepare_value(self, value: Any) -> Any:
        return "" if value is None else super().prepare_value(value)

    def clean(self, value: Any) -> dict[str, Any]:
        params = super().clean(value)
        if params is not None and not isinstance(params, dict):
            raise forms.ValidationError("Enter a JSON object.")
        return params or {}


class StartForm(forms.Form):
    """The prompt, the parameters and the options of a run of one workflow."""

    prompt = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField"}))

    def __init__(self, definition: Definition, data: Any = None) -> None:
        super().__init__(data)
        self._definition = definition
        schema = parameters_schema(definition)
        self._parameters: dict[str, ParameterField] = parameter_fields(schema)
        for name, field in self._parameters.items():
            field.label = name
            self.fields[PREFIX + name] = field
        if schema["additionalProperties"] is not False:
            self.fields["params"] = OtherParametersField(
                required=False,
                label="Other parameters",
                widget=forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField"}),
                help_text='A JSON object such as {"failures": 3}; optional.',
            )
        self.fields["pool"] = forms.CharField(required=False, help_text=f"Empty: {definition.pool}.")
        self.fields["key"] = forms.CharField(
            required=False, help_text="Idempotency key: a second start with the same key returns the existing run."
        )

    def clean(self) -> dict[str, Any]:
        """Collect the arguments: as values, and as the texts that a person entered."""
        data: dict[str, Any] = self.cleaned_data
        self._values: dict[str, Any] = dict(data.get("params", {}))
        self._texts: dict[str, str] = {}
        for name, field in self._parameters.items():
            text = data.get(PREFIX + name, "")
            if text in ("", field.default):
                continue
            self._texts[name] = text
            try:
                self._values[name] = field.argument(text)
            except forms.ValidationError as error:
                self.add_error(PREFIX + name, error)
        return data

    def start(self) -> Run | None:
        """Start the workflow. Return None if that failed; the form then shows the error."""
        data = self.cleaned_data
        try:
            return launch_by_name(
                self._definition.name,
                prompt=data["prompt"],
                params=self._values,
                pool=data["pool"] or None,
                key=data["key"] or None,
                texts=self._texts,
            )
        except LaunchError as error:
            self.add_error(self._field_of(error), str(error))
            return None

    def _field_of(self, error: LaunchError) -> str | None:
        """Return the field that an error is about; None for the whole form."""
        if not isinstance(error.__cause__, InvalidParameter):
            return None
        name, _, _ = error.__cause__.reason.partition(" is ")
        return PREFIX + name if name in self._parameters else None


def start_workflow_view(model_admin: RowActionsAdmin, request: HttpRequest) -> HttpResponse:
    """Show what can be started, or the form of one workflow; on a valid POST, start it and redirect to its page.

    Raises:
        PermissionDenied: if the user may not change workflows.
    """
    if not model_admin.has_run_action_permission(request):
        raise PermissionDenied
    # A parameter may be a secret: the report of an error shows none.
    request.sensitive_post_parameters = "__ALL__"  # type: ignore[attr-defined]
    known = definitions()
    definition = known.get(request.GET.get(WORKFLOW, ""))
    if definition is None and WORKFLOW in request.GET:
        messages.error(request, f"There is no workflow {request.GET[WORKFLOW]}.")
    form = StartForm(definition, request.POST or None) if definition is not None else None
    if form is not None and form.is_valid() and (run := form.start()) is not None:
        model_admin.log_addition(request, run.workflow, "Started.")
        messages.success(request, f"Started: {run.workflow_id}.")
        return HttpResponseRedirect(reverse("admin:orchestration_workflow_change", args=[quote(run.workflow_id)]))
    for broken in broken_modules():
        messages.warning(request, f"{broken}.")
    context = {
        **admin.site.each_context(request),
        "title": f"Start {definition.name}" if definition is not None else "Start a workflow",
        "opts": model_admin.opts,
        "form": form,
        "description": description_of(definition) if definition is not None else "",
        "choices": [
            (name, ", ".join(described_parameters(each)), description_of(each)) for name, each in sorted(known.items())
        ],
    }
    return TemplateResponse(request, "admin/orchestration/workflow/start.html", context)
