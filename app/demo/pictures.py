"""The pictures that the tour sends, from the assets of the installed package or of a checkout."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from app.demo.scenario import Picture

TYPES = {".jpg": "image/jpeg", ".png": "image/png"}


class NoPictures(Exception):
    """The installation lacks its pictures."""


def load_pictures() -> list[Picture]:
    """All shipped pictures by name. Raises NoPictures."""
    for folder in _folders():
        if folder.is_dir():
            files = sorted(folder.iterdir(), key=lambda entry: entry.name)
            found = [
                Picture(file.name, file.read_bytes(), TYPES[Path(file.name).suffix])
                for file in files
                if Path(file.name).suffix in TYPES
            ]
            if found:
                return found
    raise NoPictures("the demo's pictures are missing: the installation is incomplete, install gpudeck again")


def _folders() -> list[Traversable]:
    package = resources.files("orchestrator")
    beside = Path(__file__).resolve().parents[2]
    return [package / "_assets" / "images", beside / "assets" / "images"]
