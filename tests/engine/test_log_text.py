"""Log lines of workers are hostile until cleaned (reliability.md U4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.log_text import LINE_CHARACTERS_MAX, clean_line

LINES = {
    "plain": ("plain", "plain"),
    "bytes": (b"bytes \xc3\xbc", "bytes ü"),
    "invalid UTF-8": (b"a\xffb", "a\ufffdb"),
    "line end": ("text\r\n", "text"),
    "colour": ("\x1b[1;31mred\x1b[0m", "red"),
    "cursor": ("a\x1b[2J\x1b[10;10Hb", "ab"),
    "private mode": ("\x1b[?1049hx", "x"),
    "C1 CSI": ("\x9b31mred", "red"),
    "OSC 52 clipboard": ("a\x1b]52;c;c2VjcmV0\x07b", "ab"),
    "OSC 8 link": ("\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\", "text"),
    "OSC title, C1": ("\x9d0;title\x9cx", "x"),
    "unterminated OSC": ("a\x1b]0;title", "a"),
    "DCS": ("a\x1bPq#0\x1b\\b", "ab"),
    "charset": ("\x1b(0x\x1b(B", "x"),
    "lone escape": ("a\x1b", "a"),
    "controls": ("a\x00\x07\x08\x7fb", "ab"),
    "tab": ("a\tb", "a    b"),
    "progress bar": ("10%\r50%\r100%", "100%"),
    "bidirectional override": ("a\u202eb\u2066c", "abc"),
    "line separator": ("a\u2028b", "ab"),
    "markup stays": ("[red]x[/red]", "[red]x[/red]"),
    "wide and combining stay": ("日本 e\u0301", "日本 e\u0301"),
}


@pytest.mark.parametrize("case", LINES)
def test_a_line_is_made_plain(case: str) -> None:
    line, plain = LINES[case]
    assert clean_line(line) == plain


@pytest.mark.parametrize("line", ["x" * 5_000, b"x" * 1_000_000, "\x1b[0m" * 100_000 + "x"])
def test_a_line_is_bounded(line: str | bytes) -> None:
    assert len(clean_line(line)) <= LINE_CHARACTERS_MAX


def test_a_cut_is_visible() -> None:
    assert clean_line("x" * LINE_CHARACTERS_MAX) == "x" * LINE_CHARACTERS_MAX
    assert clean_line("x" * (LINE_CHARACTERS_MAX + 1)).endswith("x…")


@given(st.text(alphabet=st.characters() | st.sampled_from("\x1b[]P;m\x07\x9b\x9c\x9d\\?0")) | st.binary())
def test_no_control_ever_survives(line: str | bytes) -> None:
    cleaned = clean_line(line)
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in cleaned)
    assert clean_line(cleaned) == cleaned
