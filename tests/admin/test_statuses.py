"""The signs, words and colours of statuses: the same in the admin and in scripts, for every status of a model."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from django.conf import settings

from orchestration.admin.statuses import DRAINING, HELD, STATUSES
from orchestration.models import Pool, Stage, Wait, Worker, Workflow
from tests.harness.browser import NODE

STATIC = Path(settings.BASE_DIR) / "dashboard" / "static" / "dashboard"
PRINT_STATUSES = f"""
import {{ STATUSES }} from {json.dumps((STATIC / "statuses.js").as_uri())};
console.log(JSON.stringify(STATUSES));
"""


def test_admin_and_scripts_show_statuses_alike() -> None:
    done = subprocess.run(
        [NODE, "--input-type=module"], input=PRINT_STATUSES, capture_output=True, text=True, timeout=60, check=True
    )
    of_scripts = json.loads(done.stdout)
    of_admin = {kind: {status: look._asdict() for status, look in looks.items()} for kind, looks in STATUSES.items()}
    assert of_admin == of_scripts


def test_every_status_of_a_model_has_a_look() -> None:
    for model in (Workflow, Stage, Worker, Pool, Wait):
        choices = [value for value, _ in model._meta.get_field("status").choices or ()]
        assert list(STATUSES[model._meta.model_name or ""]) == choices
    assert len(STATUSES) == 5


def test_every_colour_of_a_status_is_in_both_style_sheets() -> None:
    colours = {look.colour for looks in STATUSES.values() for look in looks.values()} | {DRAINING.colour, HELD.colour}
    tokens = (STATIC / "tokens.css").read_text()
    css = (Path(settings.BASE_DIR) / "orchestration" / "static" / "orchestration" / "admin.css").read_text()
    assert dict(re.findall(r"\.status-(\w+) \{ color: var\(--(\w+)\); \}", css)) == {name: name for name in colours}
    assert colours <= set(re.findall(r"--(\w+): light-dark", tokens))
