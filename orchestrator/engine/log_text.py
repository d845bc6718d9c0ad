"""Lines written by workers are foreign text: made harmless before anything shows or stores them."""

from __future__ import annotations

import re
from typing import Final

LINE_CHARACTERS_MAX: Final = 4_000
_CUT: Final = "…"

_SEQUENCES: Final = re.compile(
    r"""
      (?:\x1b[\]P_^X] | [\x9d\x90\x9f\x9e\x98])          # OSC, DCS, APC, PM, SOS: a string ...
          [^\x07\x1b\x9c]* (?:\x07 | \x1b\\ | \x9c)?     #   ... up to its terminator, or the end of the line
    | (?:\x1b\[ | \x9b) [0-?]* [ -/]* [@-~]?             # CSI: colours, cursor movement
    | \x1b [ -/]* [0-~]?                                 # any other escape
    """,
    re.VERBOSE,
)
# C0 and C1 controls, line and paragraph separators, and the marks that reorder text: none may reach a terminal.
_CONTROLS: Final = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def clean_line(line: bytes | str) -> str:
    """One log line as plain printable text of at most LINE_CHARACTERS_MAX characters, without its line end.

    Bytes are read as UTF-8 (invalid ones become U+FFFD). Escape sequences (CSI, OSC and the other string kinds) vanish
    whole, so an OSC 52 clipboard write leaves nothing of its payload; remaining control characters and bidirectional
    overrides are dropped; a tab becomes four spaces. A line rewritten with carriage returns (a progress bar) keeps its
    last version, as a terminal would show it. Markup such as `[red]` is left alone: showing it literally is the
    reader's part.
    """
    # Four bytes a character is the most UTF-8 takes; the factor leaves room for escape sequences that vanish.
    text = line[: LINE_CHARACTERS_MAX * 16].decode("utf-8", "replace") if isinstance(line, bytes) else line
    text = text[: LINE_CHARACTERS_MAX * 4].rstrip("\r\n")
    text = _SEQUENCES.sub("", text)
    text = text.rsplit("\r", 1)[-1].replace("\t", "    ")
    text = _CONTROLS.sub("", text)
    return text if len(text) <= LINE_CHARACTERS_MAX else text[: LINE_CHARACTERS_MAX - 1] + _CUT
