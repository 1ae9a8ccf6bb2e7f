"""Which characters are shown as escapes, in Python and in the browser."""

from __future__ import annotations

import json
import subprocess
import unicodedata

from orchestration.text import escape_line, escape_text
from tests.harness.browser import NODE
from tests.harness.programs import PROJECT_DIR

VISIBLE_FORMAT_CHARACTERS = frozenset(
    map(chr, (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440)))
)
"""Signs of Arabic, Syriac, Kaithi and Egyptian: the category says format, but they are seen."""

JOINERS = frozenset("\u200c\u200d")


def test_every_control_separator_surrogate_and_format_character_is_escaped() -> None:
    kept = {
        character
        for character in map(chr, range(0x110000))
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and escape_line(character) == character
    }
    assert kept <= VISIBLE_FORMAT_CHARACTERS | JOINERS
    assert kept >= JOINERS


def test_escapes_are_those_of_python_literals() -> None:
    assert escape_line("\t\n\r\x00\x7f\x85\u2028\u202e\ud800\U000e0041") == (
        r"\t\n\r\x00\x7f\x85\u2028\u202e\ud800\U000e0041"
    )
    assert escape_line("\u115f\u3164\ufeff\u2060\xad") == r"\u115f\u3164\ufeff\u2060\xad"


def test_text_of_several_lines_keeps_line_breaks_and_tabs() -> None:
    assert escape_text("a\tb\nc\r\n\x0b") == "a\tb\nc\\r\n\\x0b"


def test_ordinary_text_is_not_changed() -> None:
    text = r"naïve שלום مرحبا 東京 👩‍👩‍👧 ❤️ नमस्ते می‌خواهم C:\new ½ €"
    assert escape_line(text) == text


ESCAPE_EVERYTHING = """
import { escapeLine } from "./dashboard/static/dashboard/escape.js";
const escaped = {};
for (let code = 0; code < 0x110000; code++) {
  const character = String.fromCodePoint(code);
  if (escapeLine(character) !== character) escaped[code] = escapeLine(character);
}
console.log(JSON.stringify([escaped, escapeLine("a\\u{1f600}\\ud83d\\u202e\\u202eb")]));
"""


def test_browser_escapes_the_same_characters() -> None:
    command = [NODE, "--input-type=module", "--eval", ESCAPE_EVERYTHING]
    done = subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True, timeout=120, check=True)
    escaped, several = json.loads(done.stdout)
    ours = {str(code): escape_line(chr(code)) for code in range(0x110000)}
    assert escaped == {code: text for code, text in ours.items() if text != chr(int(code))}
    assert several == r"a😀\ud83d\u202e\u202eb"
