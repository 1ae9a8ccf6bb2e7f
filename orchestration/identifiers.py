"""Ids of pools, workers and workflows, which a channel name can contain unchanged, and the name of the one task."""

from __future__ import annotations

import re
import uuid
from typing import Final

from django.core.exceptions import ValidationError

TASK_NAME: Final = "orchestration.run_stage"
"""The one Celery task."""

MAX_IDENTIFIER_LENGTH: Final = 128
MAX_RELEASE_LENGTH: Final = 64
IDENTIFIER_EXPECTED: Final = f"1 to {MAX_IDENTIFIER_LENGTH} of the characters A-Z a-z 0-9 . _ -"

_PATTERN: Final = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_IDENTIFIER_LENGTH}}}")


def is_identifier(value: str) -> bool:
    """Check whether the text is a valid id."""
    return _PATTERN.fullmatch(value) is not None


def validate_identifier(value: str) -> None:
    """Validate an id, as a validator of model fields.

    Raises:
        ValidationError: if it is not valid.
    """
    if not is_identifier(value):
        raise ValidationError(f"An id must be {IDENTIFIER_EXPECTED}.", code="invalid_identifier")


def new_workflow_id() -> str:
    """Return a new random workflow id: `wf_` and 32 hexadecimal digits."""
    return f"wf_{uuid.uuid4().hex}"
