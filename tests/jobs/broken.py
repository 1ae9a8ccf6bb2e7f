"""Workflows that cannot be started, each for another reason."""

from __future__ import annotations

import json
import sys
from typing import Any

from orchestration.sdk import StageDefinition, workflow


@workflow()
def fails_to_plan(prompt: str) -> Any:
    raise ValueError("No plan")


@workflow()
def misleads_a_library(prompt: str) -> Any:
    return json.loads("?")


@workflow()
def leaves(prompt: str) -> Any:
    sys.exit("Nothing to do")


@workflow()
def mixes_adapters(prompt: str) -> Any:
    return [StageDefinition(name="true", call="", options={"argv": ["true"]})]
