"""The page of a stage lists its steps."""

from __future__ import annotations

import pytest
from django.test import Client

from orchestration import services
from orchestration.models import Stage

pytestmark = pytest.mark.django_db


def test_page_of_a_stage_lists_its_steps_without_a_way_to_change_them(admin: Client) -> None:
    services.create_workflow(workflow_id="wf", adapter="python", prompt="", stages=["one"])
    services.start_workflow(workflow_id="wf")
    services.start_stage(workflow_id="wf", stage_name="one")
    stage = Stage.objects.get()
    services.store_step(stage.pk, 1, name="<ask>", arguments_digest="", output="x" * 3000, output_bytes=3072)
    page = admin.get(f"/admin/orchestration/stage/{stage.pk}/change/").content.decode()
    steps = page[page.index('id="step_records-heading"') :]
    assert "&lt;ask&gt;" in steps and "3.0\xa0KB" in steps and "xxx" not in steps
    assert "<input" not in steps.partition("</table>")[0]
