"""A picture in the terminal: two pixels in each cell as half blocks, or the terminal's own graphics where it has any.

Kitty's protocol and Sixel come from textual-image. Importing it asks the terminal questions on stdin, which works only
before Textual reads there: `prepare` is called ahead of the app, and only for terminals known to draw pictures.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from rich.segment import Segment
from rich.style import Style
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

if TYPE_CHECKING:
    from PIL.Image import Image

Graphics = Literal["kitty", "sixel", "blocks"]
_GRAPHICS: Final[tuple[Graphics, ...]] = ("kitty", "sixel", "blocks")

PIXELS_MAX: Final = 64_000_000
"""Largest picture that is decoded: a small file may claim to be a huge picture."""
_KITTY: Final = frozenset({"ghostty"})
_SIXEL: Final = frozenset({"WezTerm", "mintty", "iTerm.app", "contour"})


class Unreadable(ValueError):
    """The bytes are no picture that can be shown; the text says why."""


def graphics(environ: Mapping[str, str]) -> Graphics:
    """How pictures are drawn: `GPUDECK_GRAPHICS` says so, else what the terminal is known for."""
    chosen = environ.get("GPUDECK_GRAPHICS", "auto")
    for each in _GRAPHICS:
        if each == chosen:
            return each
    if environ.get("TMUX") or environ.get("STY"):
        return "blocks"  # a multiplexer swallows graphics, or lets them stand where the text has moved on
    if environ.get("KITTY_WINDOW_ID") or environ.get("TERM") == "xterm-kitty" or environ.get("TERM_PROGRAM") in _KITTY:
        return "kitty"
    if environ.get("TERM_PROGRAM") in _SIXEL or environ.get("TERM", "").startswith(("foot", "mlterm")):
        return "sixel"
    return "blocks"


def prepare() -> None:
    """Learn the size of a cell from a terminal that draws pictures itself. Call it before the app runs."""
    if graphics(os.environ) != "blocks":
        import textual_image.widget  # noqa: F401  (its import asks the terminal)


def decode(data: bytes) -> Image:
    """The picture in `data`, as RGB. Raises Unreadable. Takes a moment: call it in a thread."""
    from PIL import Image, UnidentifiedImageError  # here, for only the playground needs it

    try:
        with Image.open(io.BytesIO(data)) as opened:
            if opened.width * opened.height > PIXELS_MAX:
                raise Unreadable(f"{opened.width}x{opened.height} pixels are too many to show (at most {PIXELS_MAX:,})")
            return opened.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise error if isinstance(error, Unreadable) else Unreadable(f"not a picture: {error}") from error


class HalfBlocks(Widget):
    """A picture scaled into the room there is, its proportions kept; a cell is taken as twice as high as wide."""

    DEFAULT_CSS = """
    HalfBlocks { width: 1fr; height: 1fr; }
    """

    def __init__(self, picture: Image | None = None, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._picture = picture
        self._drawn: tuple[Size, list[Strip]] | None = None

    def show(self, picture: Image | None) -> None:
        self._picture, self._drawn = picture, None
        self.refresh()

    def render_line(self, y: int) -> Strip:
        if self._drawn is None or self._drawn[0] != self.size:
            self._drawn = (self.size, self._draw(self.size))
        strips = self._drawn[1]
        return strips[y] if y < len(strips) else Strip.blank(self.size.width, self.rich_style)

    def _draw(self, size: Size) -> list[Strip]:
        if self._picture is None or not size.width or not size.height:
            return []
        width, height = fitted(self._picture.size, (size.width, size.height * 2))
        small = self._picture.resize((width, height))
        pixels = small.tobytes()
        rows: list[Strip] = []
        for top in range(0, height - 1, 2):
            segments = [
                Segment(
                    "▀",
                    Style(color=_hex(pixels, (top * width + x) * 3), bgcolor=_hex(pixels, ((top + 1) * width + x) * 3)),
                )
                for x in range(width)
            ]
            rows.append(Strip(segments).adjust_cell_length(size.width, self.rich_style))
        return rows


def fitted(picture: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    """Width and height within `room`, at least 1 by 2, in the picture's proportions; the height is even."""
    scale = min(room[0] / picture[0], room[1] / picture[1])
    return max(round(picture[0] * scale), 1), max(round(picture[1] * scale) // 2 * 2, 2)


def _hex(pixels: bytes, at: int) -> str:
    return f"#{pixels[at]:02x}{pixels[at + 1]:02x}{pixels[at + 2]:02x}"


class Picture(Vertical):
    """A picture, drawn in the best way that the terminal is known to have."""

    DEFAULT_CSS = """
    Picture { width: 1fr; height: 1fr; }
    """

    def compose(self) -> ComposeResult:
        how = graphics(os.environ)
        if how == "blocks":
            yield HalfBlocks()
            return
        from textual_image.widget import SixelImage, TGPImage  # here: see `prepare`

        yield TGPImage() if how == "kitty" else SixelImage()

    def show(self, picture: Image | None) -> None:
        """Draw `picture`, or nothing."""
        for blocks in self.query(HalfBlocks):
            blocks.show(picture)
            return
        drawn: Any = self.children[0]
        drawn.image = picture
