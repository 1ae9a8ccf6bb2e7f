"""The values for which a stage with `each` runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from orchestration.sdk.stage_errors import StageFailed
from orchestration.secret_mask import MASK, contains_mask


@dataclass(frozen=True, slots=True)
class MapItems:
    """What an adapter returns for a stage with `each`: the stage runs once for each of these values."""

    values: list[Any]

    @classmethod
    def of(cls, stage_name: str, results: Mapping[str, Any]) -> Self:
        """Return the output of a stage as values.

        Raises:
            StageFailed: if the run has no such output, it is no list, or a mask stands for a secret in it.
        """
        if stage_name not in results:
            raise StageFailed(f"each: the run has no output of stage {stage_name}", may_retry=False)
        values = results[stage_name]
        if not isinstance(values, Sequence) or isinstance(values, str):
            found = type(values).__name__
            raise StageFailed(
                f"each: stage {stage_name} returned a value of type {found}; expected a list", may_retry=False
            )
        found_values = list(values)
        if contains_mask(found_values):
            raise StageFailed(
                f"each: the output of stage {stage_name} contains {MASK} in place of a secret; "
                "expected values without secrets, which each item can take from its inputs",
                may_retry=False,
            )
        return cls(found_values)
