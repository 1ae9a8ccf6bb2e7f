"""What the workflows of a simulation are about: enough variety that a person who watches can tell them apart."""

from __future__ import annotations

from dataclasses import dataclass
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
class Story:
    """One workflow to come."""

    adapter: str
    prompt: str
    stages: tuple[str, ...]


_STORIES: Final = (
    Story(adapter="llamaindex", prompt="Answer questions about {}", stages=("load", "index", "retrieve", "answer")),
    Story(
        adapter="llamaindex", prompt="Write a parser for {}", stages=("plan", "code_generation", "run_tests", "review")
    ),
    Story(adapter="python", prompt="Clean and load {}", stages=("extract", "validate", "transform", "load", "report")),
    Story(adapter="python", prompt="Train a classifier on {}", stages=("sample", "train", "evaluate")),
    Story(adapter="command", prompt="Archive last month's {}", stages=("collect", "compress", "upload")),
    Story(adapter="command", prompt="Summarise {}", stages=("read", "summarise")),
)


def write_story(random: Random) -> Story:
    """Make up a workflow."""
    story = random.choice(_STORIES)
    prompt = story.prompt.format(random.choice(_SUBJECTS))
    return Story(adapter=story.adapter, prompt=prompt, stages=story.stages)


def stage_result(random: Random) -> dict[str, Any]:
    """Make up what a stage returns."""
    return {"output": "Success", "items": random.randint(1, 500)}


def final_result(story: Story) -> dict[str, Any]:
    """Make up what a workflow returns."""
    return {"final_output": f"{story.prompt}: done"}
