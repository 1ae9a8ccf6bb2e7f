"""The picture in the README exists, and is small enough to be loaded at once."""

from __future__ import annotations

from tests.dashboard.picture import MAX_PICTURE_BYTES, PICTURE
from tests.harness.programs import PROJECT_DIR


def test_readme_shows_a_small_picture() -> None:
    assert f"]({PICTURE.relative_to(PROJECT_DIR)})" in (PROJECT_DIR / "README.md").read_text(encoding="utf-8")
    picture = PICTURE.read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) <= MAX_PICTURE_BYTES
