import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.report.terminal import strip_controls


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain\ttext\nand more", "plain\ttext\nand more"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hgone", "gone"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;cm0gLXJm\x07", ""),
        ("\x1b]0;never closed", ""),
        ("\x1bPq#0;2\x1b\\after", "after"),
        ("\x90dcs\x9cafter", "after"),
        ("\x1b(B\x1b=\x1bcdone", "done"),
        ("\x1b", ""),
        ("a\x00b\x07c\x08d\x7fe\x85f", "abcdef"),
        ("one\r\ntwo\rthree", "one\ntwothree"),
        ("abc\u202etxt.exe", "abc<U+202E>txt.exe"),
        ("\u2066x\u2069 \u200fy", "<U+2066>x<U+2069> <U+200F>y"),
        ("a\u200bb\ufeffc\u2028d", "a<U+200B>b<U+FEFF>c<U+2028>d"),
        ("tag\U000e0041", "tag<U+E0041>"),
        ("half \ud83d pair", "half \ufffd pair"),
        ("família 👩\u200d👩\u200d👧 ñ 中文 עברית", "família 👩\u200d👩\u200d👧 ñ 中文 עברית"),
        ("\x1b\x1b[31m[32m", "[32m"),
    ],
)
def test_controls_are_taken_out_and_what_hides_is_shown(text: str, expected: str) -> None:
    assert strip_controls(text) == expected


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=()) | st.sampled_from("\x1b\x9b[]P\\\x07m;0")))
def test_whatever_comes_in_what_goes_out_is_harmless_and_stays_so(text: str) -> None:
    safe = strip_controls(text)
    safe.encode()
    assert all(char in "\t\n" or unicodedata.category(char) != "Cc" for char in safe)
    assert strip_controls(safe) == safe
