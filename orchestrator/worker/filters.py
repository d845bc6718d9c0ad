"""The work of the `sketch` model: OpenCV's non-photorealistic filters. Importing this module imports OpenCV.

Arrays are BGR, uint8, height x width x 3.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from orchestrator.worker.pictures import PIXELS_MAX
from orchestrator.worker.problem import Problem

# Read once, when OpenCV loads: its decoders refuse a picture whose frame is larger than its container's header said.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(PIXELS_MAX))

import cv2
import numpy as np
from cv2.typing import MatLike as Pixels

JPEG_QUALITY: Final = 92
PNG_COMPRESSION: Final = 3

cv2.setNumThreads(1)


def pencil(pixels: Pixels, strength: float, colour: bool) -> Pixels:
    """A pencil drawing; more strength, more strokes and darker ones."""
    grey, coloured = cv2.pencilSketch(
        pixels, sigma_s=10 + 20 * strength, sigma_r=0.13 - 0.1 * strength, shade_factor=0.05 - 0.02 * strength
    )
    return coloured if colour else cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)


def stylise(pixels: Pixels, strength: float, colour: bool) -> Pixels:
    """A painting with dark contours; more strength, larger flat areas."""
    return cv2.stylization(pixels, sigma_s=20 + 120 * strength, sigma_r=0.2 + 0.5 * strength)


def enhance(pixels: Pixels, strength: float, colour: bool) -> Pixels:
    """Details brought out; more strength, stronger and finer ones."""
    return cv2.detailEnhance(pixels, sigma_s=5 + 20 * strength, sigma_r=0.05 + 0.25 * strength)


def smooth(pixels: Pixels, strength: float, colour: bool) -> Pixels:
    """Texture removed, edges kept; more strength, less texture."""
    return cv2.edgePreservingFilter(
        pixels, flags=cv2.RECURS_FILTER, sigma_s=20 + 100 * strength, sigma_r=0.2 + 0.5 * strength
    )


OPERATIONS: Final[dict[str, Callable[[Pixels, float, bool], Pixels]]] = {
    "pencil": pencil,
    "stylise": stylise,
    "enhance": enhance,
    "smooth": smooth,
}


def decode(data: bytes, form: str) -> Pixels:
    """Pixels of a picture whose header has been checked. Transparent parts become white, EXIF rotation is applied
    (JPEG). Raises Problem 422 when it does not decode."""
    flags = cv2.IMREAD_UNCHANGED if form in ("png", "webp") else cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise _broken(form) from error
    if pixels is None:
        raise _broken(form)
    if pixels.dtype == np.uint16:
        pixels = (pixels // 257).astype(np.uint8)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    if pixels.shape[2] == 4:
        alpha = pixels[:, :, 3:].astype(np.uint16)
        return ((pixels[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return pixels


def fit(pixels: Pixels, max_side: int) -> Pixels:
    """Scaled down so that the longer side has at most `max_side` pixels; never up."""
    height, width = pixels.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def encode(pixels: Pixels, form: str) -> bytes:
    """A PNG or JPEG. Raises Problem 422 when OpenCV refuses."""
    extension, settings = (
        (".png", [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION])
        if form == "png"
        else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    )
    done, buffer = cv2.imencode(extension, pixels, settings)
    if not done:
        raise Problem(422, "encode", f"format: these pixels cannot be written as {form}", field="format")
    return bytes(buffer)


def warm_up() -> str:
    """One call of the usual filter, so that the first request does not pay for what OpenCV sets up on first use."""
    pencil(np.full((64, 64, 3), 127, np.uint8), 0.5, False)
    return f"OpenCV {cv2.__version__}, {cv2.getNumThreads()} thread a picture"


def _broken(form: str) -> Problem:
    return Problem(422, "image_broken", f"image: this {form} does not decode; is it cut off?", field="image")
