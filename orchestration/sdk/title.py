"""Titles of waits, with values of the run: `{param}`, and `{stage[key]}` for the output of a stage."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from orchestration.models.wait import MAX_WAIT_TITLE_LENGTH
from orchestration.plan import InvalidDefinition
from orchestration.sdk.stage_errors import StageFailed
from orchestration.secret_mask import masked
from orchestration.text import storable, truncate

_TOKEN: Final = re.compile(r"\{\{|\}\}|\{(?P<name>[A-Za-z0-9_.-]+)(?P<keys>(?:\[[^\[\]{}]+\])*)\}|[{}]")
_KEY: Final = re.compile(r"\[([^\[\]]+)\]")
_EXPECTED: Final = "{param}, {stage} or {stage[key]}; {{ and }} for braces"


def check_title(title: str) -> None:
    """Check the placeholders of a title.

    Raises:
        InvalidDefinition: if it is too long, or one is none of those that exist.
    """
    if len(title) > MAX_WAIT_TITLE_LENGTH or storable(title) != title:
        raise InvalidDefinition(f"title: expected text of at most {MAX_WAIT_TITLE_LENGTH} characters, without NUL")
    if any(token[0] in ("{", "}") for token in _TOKEN.finditer(title)):
        raise InvalidDefinition(f"title={title!r}: expected {_EXPECTED}")


def formatted_title(title: str, results: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """Return a title with the values of a run. A placeholder only reads: it calls nothing, and sees no attributes.

    Raises:
        StageFailed: if the run has no such value.
    """

    def replaced(token: re.Match[str]) -> str:
        if token["name"] is None:
            return token[0][0]
        name, keys = token["name"], _KEY.findall(token["keys"])
        sources = (results, inputs) if keys else (inputs, results)
        source = next((each for each in sources if name in each), None)
        if source is None:
            raise StageFailed(f"title: the run has no value {name} for {token[0]}", may_retry=False)
        value = source[name]
        for key in keys:
            value = _item(value, key, token[0])
        return _as_text(value)

    return truncate(storable(masked(_TOKEN.sub(replaced, title))), MAX_WAIT_TITLE_LENGTH)


def _item(value: Any, key: str, placeholder: str) -> Any:
    if isinstance(value, Mapping) and key in value:
        return value[key]
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if is_list and key.isdecimal() and int(key) < len(value):
        return value[int(key)]
    raise StageFailed(f"title: there is no {key} for {placeholder}", may_retry=False)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    except TypeError:
        raise StageFailed(f"title: a value of type {type(value).__name__} is not JSON", may_retry=False) from None
