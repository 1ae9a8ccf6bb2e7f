"""Sample workflows: prompts, stages, results and errors with enough variety to distinguish the runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

_SUBJECTS: Final = ("invoices", "support tickets", "sensor readings", "release notes", "survey answers", "log files")

STAGE_ERRORS: Final = (
    "The model refused to answer",
    "Connection reset by peer",
    "Out of memory",
    "The result is not valid JSON",
)
CANCEL_REASONS: Final = ("No longer needed", "Started by mistake", "Superseded by a newer run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The definition of a simulated workflow."""

    name: str
    adapter: str
    prompt: str
    stages: tuple[str, ...]


_SCENARIOS: Final = (
    Scenario(
        name="answer_questions",
        adapter="llamaindex",
        prompt="Answer questions about {}",
        stages=("load", "index", "retrieve", "answer"),
    ),
    Scenario(
        name="write_parser",
        adapter="llamaindex",
        prompt="Write a parser for {}",
        stages=("plan", "code_generation", "run_tests", "review"),
    ),
    Scenario(
        name="clean_and_load",
        adapter="python",
        prompt="Clean and load {}",
        stages=("extract", "validate", "transform", "load", "report"),
    ),
    Scenario(
        name="train_classifier",
        adapter="python",
        prompt="Train a classifier on {}",
        stages=("sample", "train", "evaluate"),
    ),
    Scenario(
        name="archive", adapter="command", prompt="Archive last month's {}", stages=("collect", "compress", "upload")
    ),
    Scenario(name="summarise", adapter="command", prompt="Summarise {}", stages=("read", "summarise")),
)


def choose_scenario(random: Random) -> Scenario:
    """Return a random scenario with a random subject in its prompt."""
    scenario = random.choice(_SCENARIOS)
    prompt = scenario.prompt.format(random.choice(_SUBJECTS))
    return replace(scenario, prompt=prompt)


def stage_result(random: Random) -> dict[str, Any]:
    """Return a random result of a stage."""
    return {"output": "Success", "items": random.randint(1, 500)}


def workflow_result(scenario: Scenario) -> dict[str, Any]:
    """Return the result of a workflow."""
    return {"final_output": f"{scenario.prompt}: done"}
