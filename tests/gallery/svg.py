"""A picture of the terminal in few bytes: what Textual exports, with everything that is no letter drawn as a shape.

Textual writes a rectangle and a text with a clip of its own for every run of cells, and leaves blocks and frames to
whatever font there is, with gaps between the lines. Here the grounds of each colour are one path, blocks and frames are
shapes that meet, text is not clipped, and nothing is loaded from elsewhere.
"""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

WIDTH: Final = 12.2
HEIGHT: Final = 24.4
"""Pixels of a cell in Textual's export, whose font is 20 pixels high."""
BASELINE: Final = 18.5
"""From the top of a row to the line that its text stands on."""
FONT: Final = "'Fira Code','Cascadia Mono',Menlo,'DejaVu Sans Mono',monospace"
BLANK: Final = "\N{NO-BREAK SPACE}"

_RECT: Final = re.compile(
    r'<rect fill="(?P<fill>#[0-9a-f]{6})" x="(?P<x>[\d.]+)" y="(?P<y>[\d.]+)" width="(?P<width>[\d.]+)" '
    r'height="[\d.]+" shape-rendering="crispEdges"/>'
)
_TEXT: Final = re.compile(
    r'<text class="terminal-\d+-(?P<tone>r\d+)" x="(?P<x>[\d.]+)" y="(?P<y>[\d.]+)" textLength="(?P<width>[\d.]+)" '
    r'clip-path="[^"]*">(?P<said>[^<]*)</text>'
)
_RULE: Final = re.compile(r"\.terminal-\d+-(?P<tone>r\d+) \{ (?P<rule>fill: (?P<fill>#[0-9a-f]{6})[^}]*?) ?\}")
_FRAME: Final = re.compile(r'viewBox="0 0 (?P<width>[\d.]+) (?P<height>[\d.]+)"')

_BLOCKS: Final[Mapping[str, tuple[float, float, float, float]]] = {
    "▀": (0, 0, 1, 1 / 2),
    "▌": (0, 0, 1 / 2, 1),
    **{chr(0x2580 + eighth): (0, 1 - eighth / 8, 1, eighth / 8) for eighth in range(1, 9)},
    **{chr(0x2590 - eighth): (0, 0, eighth / 8, 1) for eighth in range(1, 4)},
}
"""Left, top, width and height of each block, as shares of its cell."""
_STROKES: Final[Mapping[str, str]] = {
    "│": "m6.1 -12.2v24.4",
    "╭": "m12.2 0h-2.1q-4 0 -4 4v8.2", "╮": "h2.1q4 0 4 4v8.2",
    "╰": "m12.2 0h-2.1q-4 0 -4 -4v-8.2", "╯": "h2.1q4 0 4 -4v-8.2",
    "┤": "h6.1m0 -12.2v24.4", "└": "m12.2 0h-6.1v-12.2", "┴": "h12.2m-6.1 0v-12.2",
}  # fmt: skip
"""From the middle of the left edge of its cell, the strokes of each piece of a frame."""
_PIECES: Final = re.compile(
    "(?P<line>─+)|(?P<block>[{0}])|(?P<stroke>[{1}])|(?P<text>[^─{0}{1}]+)".format(*map("".join, (_BLOCKS, _STROKES)))
)


class Patch(NamedTuple):
    """A ground: where it begins in pixels, and how large it is. Sorted by row and column."""

    y: float
    x: float
    width: float
    height: float


class Drawing:
    """What is drawn, by colour or, for text, by the class of its style."""

    def __init__(self) -> None:
        self.grounds: dict[str, list[Patch]] = defaultdict(list)
        self.blocks: dict[str, list[Patch]] = defaultdict(list)
        self.strokes: dict[str, list[str]] = defaultdict(list)
        self.texts: dict[str, list[str]] = defaultdict(list)

    def run(self, tone: str, fill: str, x: float, y: float, said: str) -> None:
        """A run of cells in one style, from the left of its first one; `y` is the top of the row."""
        for piece in _PIECES.finditer(said):
            left = x + WIDTH * piece.start()
            begin = f"M{_short(left)} {_short(y + HEIGHT / 2)}"
            if piece["line"]:
                self.strokes[fill].append(f"{begin}h{_short(WIDTH * len(piece['line']))}")
            elif piece["block"]:
                across, down, wide, high = _BLOCKS[piece["block"]]
                patch = Patch(y + HEIGHT * down, left + WIDTH * across, WIDTH * wide, HEIGHT * high)
                self.blocks[fill].append(patch)
            elif piece["stroke"]:
                self.strokes[fill].append(begin + _STROKES[piece["stroke"]])
            elif piece["text"].strip(BLANK):
                self._text(tone, left, y + BASELINE, piece["text"])

    def _text(self, tone: str, x: float, y: float, said: str) -> None:
        words = said.lstrip(BLANK)
        x += WIDTH * (len(said) - len(words))
        words = words.rstrip(BLANK)
        length = _short(WIDTH * len(words))
        self.texts[tone].append(
            f'<text x="{_short(x)}" y="{_short(y)}" textLength="{length}">{html.escape(words, quote=False)}</text>'
        )


def slim(svg: str, title: str) -> str:
    """The terminal in `svg`, an export of Textual's, in a window called `title`. Raises ValueError for another SVG."""
    frame, rules = _FRAME.search(svg), {found["tone"]: found for found in _RULE.finditer(svg)}
    if frame is None or not rules:
        raise ValueError("no picture of a terminal")
    drawn = Drawing()
    for rect in _RECT.finditer(svg):
        patch = Patch(float(rect["y"]), float(rect["x"]), float(rect["width"]), HEIGHT)
        drawn.grounds[rect["fill"]].append(patch)
    for run in _TEXT.finditer(svg):
        said = html.unescape(run["said"]).strip("\n")
        drawn.run(run["tone"], rules[run["tone"]]["fill"], float(run["x"]), float(run["y"]) - BASELINE, said)
    base = max(drawn.grounds, key=lambda fill: sum(patch.width for patch in drawn.grounds[fill]))
    del drawn.grounds[base]
    width, height = float(frame["width"]), float(frame["height"])
    return "\n".join(
        [
            f'<svg viewBox="0 0 {width:g} {height:g}" xmlns="http://www.w3.org/2000/svg">',
            f"<style>.m{{font:20px {FONT};white-space:pre}}{_css(rules, drawn.texts)}</style>",
            *_window(title, base, width, height),
            '<g transform="translate(9,41)"><g shape-rendering="crispEdges">',
            *_paths(drawn.grounds),
            *_paths(drawn.blocks),
            '</g><g fill="none" stroke-width="1.6">',
            *(f'<path stroke="{fill}" d="{"".join(pieces)}"/>' for fill, pieces in drawn.strokes.items()),
            '</g><g class="m">',
            *(f'<g class="{tone}">{"".join(runs)}</g>' for tone, runs in drawn.texts.items()),
            "</g></g></svg>",
            "",
        ]
    )


def _css(rules: Mapping[str, re.Match[str]], tones: Iterable[str]) -> str:
    return "".join(f".{tone}{{{rules[tone]['rule'].replace(': ', ':')}}}" for tone in tones)


def _window(title: str, base: str, width: float, height: float) -> list[str]:
    """The frame that Textual draws, filled with the colour that most of the terminal has."""
    buttons = zip(("#ff5f57", "#febc2e", "#28c840"), (26, 48, 70), strict=True)
    return [
        f'<rect fill="#292929" stroke="#fff" stroke-opacity=".35" x="1" y="1" width="{width - 2:g}" '
        f'height="{height - 2:g}" rx="8"/>',
        f'<text fill="#c5c8c6" font-family="sans-serif" font-size="18" font-weight="bold" text-anchor="middle" '
        f'x="{width / 2:g}" y="27">{html.escape(title)}</text>',
        *(f'<circle cx="{at}" cy="22" r="7" fill="{fill}"/>' for fill, at in buttons),
        f'<rect fill="{base}" x="9" y="42.5" width="{width - 18:g}" height="{height - 51:g}"/>',
    ]


def _paths(patches: Mapping[str, list[Patch]]) -> list[str]:
    """One path a colour; patches that touch in a row are one."""
    return [f'<path fill="{fill}" d="{"".join(map(_outline, _joined(found)))}"/>' for fill, found in patches.items()]


def _joined(patches: Iterable[Patch]) -> list[Patch]:
    joined: list[Patch] = []
    for patch in sorted(patches):
        last = joined[-1] if joined else None
        touches = last is not None and abs(last.x + last.width - patch.x) < WIDTH / 20
        if last is not None and touches and (last.y, last.height) == (patch.y, patch.height):
            joined[-1] = last._replace(width=patch.x + patch.width - last.x)
        else:
            joined.append(patch)
    return joined


def _outline(patch: Patch) -> str:
    y, x, width, height = map(_short, patch)
    return f"M{x} {y}h{width}v{height}h-{width}z"


def _short(value: float) -> str:
    return f"{round(value, 2):g}"
