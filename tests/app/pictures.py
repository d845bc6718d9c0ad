"""Pictures of the terminal as tests: the text on the screen line by line, and the SVG that shows it in colour.

`GPUDECK_UPDATE_SNAPSHOTS=1 pytest tests/app` writes both; look at the SVG before you commit it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from app.app import GpudeckApp

FOLDER = Path(__file__).parent / "snapshots"


def screen_text(app: GpudeckApp) -> str:
    """What is on the screen, one line a row, without trailing blanks."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips) + "\n"


def normalised_svg(app: GpudeckApp) -> str:
    """The screen as SVG without the identifiers that differ from run to run."""
    svg = app.export_screenshot(title="gpudeck")
    return re.sub(r"terminal-\d+", "terminal-0", svg)


def assert_picture(app: GpudeckApp, name: str) -> None:
    """Compare with the stored picture: first the text, which reads well in a diff, then the SVG with its colours."""
    text, svg = screen_text(app), normalised_svg(app)
    text_file, svg_file = FOLDER / f"{name}.txt", FOLDER / f"{name}.svg"
    if os.environ.get("GPUDECK_UPDATE_SNAPSHOTS") == "1":
        FOLDER.mkdir(exist_ok=True)
        text_file.write_text(text, encoding="utf-8")
        svg_file.write_text(svg, encoding="utf-8")
        return
    assert text == text_file.read_text(encoding="utf-8"), f"the text of {name} changed"
    assert svg == svg_file.read_text(encoding="utf-8"), f"only the colours of {name} changed: compare the SVG files"
