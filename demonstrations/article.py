"""Stages of an agent's work: a durable step, items that stream their text, a question, and what follows the answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from orchestration.sdk import Context, StageSkipped, stage

WORD_SECONDS: Final = 0.1


@dataclass
class Decision:
    """The answer to the question whether an article is published."""

    publish: bool
    comment: str = ""


@stage
def outline(ctx: Context, inputs: dict[str, Any]) -> list[str]:
    """Find the headings, once: a later attempt reads them."""
    topic = inputs["prompt"] or "Durable workflows"
    headings: list[str] = ctx.step("headings", find_headings, topic)
    return headings


def find_headings(topic: str) -> list[str]:
    """Return three headings."""
    return [f"What {topic} is", f"Why {topic} matters", f"What comes after {topic}"]


@stage
def write_section(ctx: Context, inputs: dict[str, Any], heading: str) -> str:
    """Write the text below a heading, and stream it as it comes."""
    with ctx.stream("text") as out:
        words = []
        for word in _words(heading):
            out.write(word)
            words.append(word)
    return "".join(words)


@stage
def publish(ctx: Context, inputs: dict[str, Any]) -> dict[str, Any]:
    """Join the sections if the article is to be published."""
    answer = ctx.answers["publish_article"]
    decision = Decision(**answer.value)
    if not decision.publish:
        raise StageSkipped(f"Not published: {decision.comment or 'no reason given'}")
    words = sum(len(text.split()) for text in ctx.results["write_section"])
    return {"by": answer.by, "words": words}


def _words(heading: str) -> Iterator[str]:
    for word in f"{heading}: a model would write this text, word for word, as slowly as this.".split():
        yield f"{word} "
        time.sleep(WORD_SECONDS)
