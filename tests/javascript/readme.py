"""The examples in the README of the JavaScript client."""

from __future__ import annotations

from collections.abc import Mapping

from tests.docs.markdown import PROJECT_DIR, blocks

CLIENT_DIR = PROJECT_DIR / "clients" / "javascript"
README = CLIENT_DIR / "README.md"


def example(role: str, replaced: Mapping[str, str]) -> str:
    """Return an example, with what the test replaces."""
    (block,) = blocks(README, role=role)
    text = block.text
    for printed, used in replaced.items():
        assert printed in text
        text = text.replace(printed, used)
    return text
