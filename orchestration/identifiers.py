"""Ids of pools, workers and workflows: short natural strings that can stand in a channel name as they are."""

from __future__ import annotations

import re
import uuid
from typing import Final

from django.core.exceptions import ValidationError

MAX_IDENTIFIER_LENGTH: Final = 128
IDENTIFIER_EXPECTED: Final = f"1 to {MAX_IDENTIFIER_LENGTH} of the characters A-Z a-z 0-9 . _ -"

_PATTERN: Final = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_IDENTIFIER_LENGTH}}}")


def is_identifier(value: str) -> bool:
    """Tell whether the text is an id."""
    return _PATTERN.fullmatch(value) is not None


def validate_identifier(value: str) -> None:
    """Let an id pass; the form of the check that model fields take.

    Raises:
        ValidationError: if it is not one.
    """
    if not is_identifier(value):
        raise ValidationError(f"An id is {IDENTIFIER_EXPECTED}.", code="invalid_identifier")


def new_workflow_id() -> str:
    """Make an id that no other workflow has: `wf_` and 32 hexadecimal digits."""
    return f"wf_{uuid.uuid4().hex}"
