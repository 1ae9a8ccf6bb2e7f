"""Decode the body of a request: strict JSON, with bounds."""

from __future__ import annotations

from typing import Any, Final

from realtime.api.problems import Problem
from realtime.protocol.payload import decode_strictly
from realtime.protocol.problems import ProblemCode

MAX_DEPTH: Final = 32
"""How deep objects and arrays of a body may be nested."""

MAX_CONTAINERS: Final = 20_000
"""Objects and arrays of a body: 20 for each of 1000 events. While they are decoded, no event is sent."""


def decode_body(body: bytes) -> Any:
    """Return the JSON value of a body.

    Raises:
        Problem: with `INVALID_JSON`.
    """
    try:
        return decode_strictly(body.decode(), max_depth=MAX_DEPTH, max_containers=MAX_CONTAINERS)
    except ValueError as error:
        raise Problem(ProblemCode.INVALID_JSON, f"The body is not acceptable JSON: {str(error)[:200]}") from None
