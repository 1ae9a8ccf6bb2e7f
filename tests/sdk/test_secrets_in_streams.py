"""Secrets in streams: what comes in chunks is masked as the whole is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.secret_mask import ChunkMask, hidden, masked
from orchestration.testing import run_inline
from tests.jobs import secrets
from tests.sdk.test_secrets import KEY, PARAMS

OVERLAPPING = ("abcd", "abcdabcdef", "cdefgh", "éß-日本")


@given(st.lists(st.text("abcdefgh") | st.sampled_from([*OVERLAPPING, "é", "日", "éß-"]), max_size=12), st.data())
def test_chunks_are_masked_as_the_whole_is(parts: list[str], data: st.DataObject) -> None:
    """However a text is cut into chunks, the masked chunks together are the masked text."""
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    chunks = [text[start:end].encode() for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    with hidden(OVERLAPPING):
        mask, expected = ChunkMask(), masked(text)
    found = [*(mask.push(chunk) for chunk in chunks), mask.flush()]
    assert "".join(each.decode() for each in found) == expected


def test_only_the_beginning_of_a_secret_is_held_back() -> None:
    with hidden(OVERLAPPING):
        mask = ChunkMask()
    assert [mask.push(each) for each in (b"xabc", b"d", b"x", b"ab", b"y")] == [b"x", b"", b"***x", b"", b"aby"]
    assert (mask.push(b"abcdab"), mask.flush(), mask.flush()) == (b"", b"***ab", b"")
    assert (ChunkMask().push(b"abcd"), ChunkMask().flush()) == (b"abcd", b"")


@pytest.mark.django_db
def test_streams_of_a_stage_have_no_secrets() -> None:
    result = run_inline(secrets.whispering, **PARAMS)
    text = f"key ***, {KEY[:6]}"
    assert result.stages["whisper"].streams == {"text": f"{text}, ***", "bytes": text.encode()}
