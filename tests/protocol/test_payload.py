"""JSON that clients send over HTTP, and the beginning of stored data."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.protocol.payload import decode_strictly, first_members

MANY = 100_000


def test_key_that_occurs_twice_is_found_among_very_many() -> None:
    # Comparing each key with each would take minutes, more than a test may.
    keys = ",".join(f'"{number:x}":1' for number in range(MANY))
    with pytest.raises(ValueError, match="'zz' twice"):
        decode_strictly(f'{{{keys},"zz":1,"zz":2}}', max_depth=32, max_containers=50)


@pytest.mark.parametrize("text", ['{"a":[{},[],{"b":[1]}]}', "[[],[[]],[[]]]"])
def test_objects_and_arrays_are_limited(text: str) -> None:
    assert decode_strictly(text, max_depth=4, max_containers=6) is not None
    with pytest.raises(ValueError, match="more than 5 objects and arrays"):
        decode_strictly(f"[{text}]", max_depth=5, max_containers=5)
    with pytest.raises(ValueError, match="nested deeper than 2"):
        decode_strictly(text, max_depth=2, max_containers=6)


@pytest.mark.parametrize("text", ["1", '"[{[{[{"', "null", '"\\ud83d\\ude00"'])
def test_values_without_members_are_no_containers(text: str) -> None:
    decode_strictly(text, max_depth=0, max_containers=0)


@given(st.recursive(st.none() | st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)))
def test_objects_and_arrays_are_counted_outside_of_texts(value: Any) -> None:
    count = containers_in(value)
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert decode_strictly(text, max_depth=99, max_containers=count) == value
        if count:
            with pytest.raises(ValueError, match="objects and arrays"):
                decode_strictly(text, max_depth=99, max_containers=count - 1)


def containers_in(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(containers_in, value.values()))
    return 1 + sum(map(containers_in, value)) if isinstance(value, list) else 0


@given(
    st.dictionaries(
        st.text(max_size=4), st.none() | st.integers() | st.text() | st.lists(st.text(max_size=2)), max_size=5
    ),
    st.data(),
)
def test_first_members_of_cut_data_are_those_of_all_data(value: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert [(name, json.loads(member)) for name, member in first_members(text)] == list(value.items())
    cut = first_members(text[: data.draw(st.integers(0, len(text) - 1))])
    assert [name for name, _ in cut] == list(value)[: len(cut)]
    assert all(json.loads(member) == value[name] for name, member in cut[:-1])
    if cut:
        name, member = cut[-1]
        assert member.endswith("…") or json.loads(member) == value[name]
        assert json.dumps(value[name], ensure_ascii=False, separators=(",", ":")).startswith(member.removesuffix("…"))


def test_first_members_of_deeply_nested_data_end_with_an_ellipsis() -> None:
    assert first_members('{"a":' + "[" * MANY) == [("a", "[" * MANY + "…")]
