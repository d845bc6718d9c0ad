"""What a picture claims to be, read from its first bytes, before anything is decoded.

A PNG of 60 kB can unfold to 40 GB of pixels: the size is checked here, in its header, and again by OpenCV's own limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchestrator.worker.problem import Problem

PIXELS_MAX: Final = 40_000_000
ACCEPTED: Final = "PNG, JPEG, WebP, BMP"
PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
JPEG_LONELY: Final = frozenset({0x01, *range(0xD0, 0xD9)})
JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class Header:
    """Format (`png`, `jpeg`, `webp`, `bmp`) and size in pixels."""

    format: str
    width: int
    height: int


def read_header(data: bytes) -> Header:
    """Raises Problem 415 for no accepted format, 422 for a broken header, 413 for more than PIXELS_MAX pixels."""
    header = _png(data) or _jpeg(data) or _webp(data) or _bmp(data)
    if header is None:
        raise Problem(
            415,
            "image_format",
            f"image: not a picture this model reads; send {ACCEPTED}",
            field="image",
            limit=ACCEPTED,
        )
    if header.width < 1 or header.height < 1:
        raise Problem(422, "image_broken", f"image: the {header.format} header is broken", field="image")
    if header.width * header.height > PIXELS_MAX:
        raise Problem(
            413,
            "too_many_pixels",
            f"image: {header.width} x {header.height} is more than {PIXELS_MAX // 1_000_000} megapixels; scale it down",
            field="image",
            limit=PIXELS_MAX,
        )
    return header


def _png(data: bytes) -> Header | None:
    if not data.startswith(PNG_SIGNATURE):
        return None
    if data[12:16] != b"IHDR" or len(data) < 24:
        return Header("png", 0, 0)
    return Header("png", int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))


def _jpeg(data: bytes) -> Header | None:
    """Walks the segments up to the frame header; a broken walk gives a size of 0."""
    if not data.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte before a marker
            at += 1
        elif marker in JPEG_LONELY:
            at += 2
        elif marker in JPEG_FRAMES:
            height, width = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            return Header("jpeg", width, height)
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return Header("jpeg", 0, 0)


def _webp(data: bytes) -> Header | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return Header("webp", 0, 0)
    if kind == b"VP8X":
        return Header("webp", 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little"))
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return Header("webp", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if kind == b"VP8 ":
        width, height = int.from_bytes(body[6:8], "little"), int.from_bytes(body[8:10], "little")
        return Header("webp", width & 0x3FFF, height & 0x3FFF)
    return Header("webp", 0, 0)


def _bmp(data: bytes) -> Header | None:
    if not data.startswith(b"BM") or len(data) < 26:
        return None
    width = int.from_bytes(data[18:22], "little", signed=True)
    return Header("bmp", width, abs(int.from_bytes(data[22:26], "little", signed=True)))
