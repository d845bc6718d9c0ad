"""Draws the pictures in assets/images: `python -m tests.assets_images [directory]`. Seeded, numpy and OpenCV only."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

SIDE = 512
Image = np.ndarray


def noise(rng: np.random.Generator, octaves: int, first: int = 2, fade: float = 0.5) -> Image:
    """Smooth fractal noise in 0..1, SIDE x SIDE."""
    total, weight = np.zeros((SIDE, SIDE), np.float32), 1.0
    for octave in range(octaves):
        cells = first * 2**octave + 1
        layer = cv2.resize(rng.random((cells, cells), np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        total, weight = total + weight * layer, weight * fade
    total -= total.min()
    return total / total.max()


def mix(low: tuple[int, int, int], high: tuple[int, int, int], share: Image) -> Image:
    """Colours (RGB) between `low` and `high`."""
    t = share[..., None]
    return np.array(low, np.float32) * (1 - t) + np.array(high, np.float32) * t


def ridge(rng: np.random.Generator, base: float, height: float, first: int, octaves: int = 7) -> Image:
    """Upper edge of a range of hills, one y per column."""
    line, weight = np.zeros(SIDE, np.float32), 1.0
    for octave in range(octaves):
        cells = first * 2**octave + 1
        points = rng.random(cells).astype(np.float32)
        line += weight * np.interp(np.linspace(0, cells - 1, SIDE), np.arange(cells), points).astype(np.float32)
        weight *= 0.5
    line = (line - line.min()) / (line.max() - line.min())
    return base - height * line


def landscape() -> Image:
    """Mountains over a lake at sunset, with pines on the near shore."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    horizon = 318
    picture = mix((52, 74, 128), (252, 186, 120), np.clip(y / horizon, 0, 1) ** 1.3)
    glow = np.exp(-(((x - 350) / 130) ** 2 + ((y - 235) / 80) ** 2))
    picture += glow[..., None] * np.array((70, 44, 4), np.float32)
    clouds = np.clip(noise(rng, 6, 3)[:, :] * 1.9 - 0.95, 0, 1) * np.clip(1.1 - y / horizon, 0, 1)
    clouds = cv2.resize(clouds[:, : SIDE // 2], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    picture = (
        picture * (1 - 0.75 * clouds[..., None]) + np.array((255, 214, 190), np.float32) * 0.75 * clouds[..., None]
    )
    cv2.circle(picture, (350, 222), 27, (255, 240, 205), -1, cv2.LINE_AA)
    grain = noise(rng, 8, 8, 0.75)
    # Light from the right on a relief: crags instead of mist.
    facets = np.clip(-3.5 * cv2.Sobel(cv2.GaussianBlur(grain, (0, 0), 2.2), -1, 1, 0), -0.14, 0.14)
    for base, height, first, dark, light in (
        (300, 150, 3, (88, 92, 132), (176, 150, 158)),
        (312, 105, 4, (56, 66, 102), (132, 112, 122)),
        (322, 62, 5, (34, 48, 66), (82, 84, 84)),
    ):
        edge = ridge(rng, base, height, first)
        inside = (y >= edge[None, :]) & (y < horizon + 2)
        slope = np.gradient(cv2.GaussianBlur(edge[None, :], (0, 0), 14)[0])
        light_share = np.clip(0.4 + 0.22 * slope[None, :] + facets, 0, 1)
        rock = mix(dark, light, light_share)
        if height > 140:
            snow = np.clip((edge[None, :] + 34 + 26 * (grain - 0.5) - y) / 8, 0, 1)[..., None]
            rock = rock * (1 - snow) + np.array((246, 232, 230), np.float32) * snow * (
                0.75 + 0.25 * light_share[..., None]
            )
        picture = np.where(inside[..., None], rock, picture)
    picture = water(picture, rng, horizon)
    shore = ridge(rng, 505, 62, 2)
    ground = y >= shore[None, :]
    picture = np.where(ground[..., None], mix((22, 30, 24), (74, 78, 46), noise(rng, 8, 16, 0.8)), picture)
    for at, size in ((46, 250), (104, 190), (8, 300), (150, 120), (470, 215), (508, 270), (428, 130)):
        pine(picture, rng, at, int(shore[min(at, SIDE - 1)]) + 8, size)
    return picture


def water(picture: Image, rng: np.random.Generator, horizon: int) -> Image:
    """The lower part as a rippled mirror of the upper one."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    depth = np.clip((y - horizon) / (SIDE - horizon), 0, 1)
    ripple = cv2.resize(rng.random((130, 18), np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) - 0.5
    across = x + ripple * (2 + 26 * depth)
    mirrored = np.clip(2 * horizon - y + ripple * (3 + 34 * depth) - 2, 0, horizon - 2)
    reflected = cv2.remap(picture.astype(np.float32), across, mirrored, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    reflected = reflected * 0.72 + np.array((10, 22, 40), np.float32) * 0.6
    glint = np.clip(ripple * 2.4 - 0.35, 0, 1) * np.exp(-(((x - 350) / (38 + 70 * depth)) ** 2))
    reflected += glint[..., None] * np.array((150, 110, 60), np.float32)
    return np.where((y >= horizon)[..., None], reflected, picture)


def pine(picture: Image, rng: np.random.Generator, x: int, foot: int, size: int) -> None:
    """A conifer of many short strokes, darker on its left side."""
    cv2.line(picture, (x, foot), (x, foot - size), (26, 20, 18), max(2, size // 50), cv2.LINE_AA)
    for step in range(size * 2):
        share = step / (size * 2)
        reach = (share**0.85) * size * 0.21 * (0.55 + 0.45 * abs(np.sin(share * 34)))
        for side in (-1, 1):
            end = (int(x + side * reach * rng.uniform(0.35, 1.0)), int(foot - size * (1 - share * 0.93) + reach * 0.3))
            tone = rng.uniform(0.6, 1.15) * (1.0 if side < 0 else 1.5)
            cv2.line(
                picture,
                (x, foot - int(size * (1 - share * 0.93))),
                end,
                (14 * tone, 30 * tone, 26 * tone),
                1,
                cv2.LINE_AA,
            )


def still_life() -> Image:
    """A blue vase, two apples and an orange on a wooden table before a plaster wall, lit from the left."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    wall = mix(
        (92, 98, 92), (206, 196, 168), np.clip(1.05 - (x + 0.5 * y) / 760 + 0.3 * (noise(rng, 6, 4) - 0.5), 0, 1)
    )
    wall += ((noise(rng, 8, 32, 0.9) - 0.5) * 16)[..., None]
    lines = cv2.resize(rng.random((260, 6), np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    wood = mix((84, 48, 26), (176, 116, 68), np.clip(0.2 + 0.7 * lines + 0.35 * (noise(rng, 6, 3) - 0.5), 0, 1))
    wood *= (0.72 + 0.35 * np.clip(1 - x / 620, 0, 1))[..., None]
    picture = np.where((y > 345)[..., None], wood, wall)
    picture[343:349] *= 0.55
    shadow = np.zeros((SIDE, SIDE), np.float32)
    for centre, axes in (
        ((330, 432), (150, 26)),
        ((210, 456), (110, 22)),
        ((420, 470), (96, 18)),
        ((115, 440), (90, 18)),
    ):
        cv2.ellipse(shadow, centre, axes, 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    shadow = cv2.GaussianBlur(shadow, (0, 0), 12)
    picture *= (1 - 0.62 * np.clip(shadow, 0, 1))[..., None]
    vase(picture, rng)
    fruit(picture, rng, (180, 408), 58, (206, 44, 34), (232, 178, 60), stem=True)
    fruit(picture, rng, (82, 402), 46, (120, 160, 48), (206, 206, 92), stem=True)
    fruit(picture, rng, (400, 424), 52, (238, 132, 24), (252, 170, 60), stem=False)
    return picture


def vase(picture: Image, rng: np.random.Generator) -> None:
    """A turned vessel with painted bands and three twigs in it."""
    for lean, length, bend in ((-95, 165, 0.6), (-12, 190, -0.4), (88, 155, -0.7), (40, 178, 0.3)):
        twig(picture, rng, (282, 190), lean, length, bend)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    top, bottom = 178, 436
    t = np.clip((y - top) / (bottom - top), 0, 1)
    outline = np.interp(t, [0, 0.05, 0.16, 0.3, 0.55, 0.8, 0.96, 1], [40, 42, 27, 40, 84, 74, 46, 48]).astype(
        np.float32
    )
    outline = cv2.GaussianBlur(outline, (0, 0), 5)
    across = (x - 282) / outline
    inside = (np.abs(across) < 1) & (y >= top) & (y <= bottom + 10 * np.sqrt(np.clip(1 - across**2, 0, 1)) - 4)
    curved = y - 7 * np.sqrt(np.clip(1 - across**2, 0, 1))
    light = np.clip(np.sqrt(np.clip(1 - across**2, 0, 1)) * 0.55 - across * 0.5 + 0.16, 0.08, 1)
    glaze = mix((16, 36, 84), (108, 160, 214), light)
    for band, width in ((232, 3), (240, 2), (318, 4), (396, 3), (403, 2)):
        glaze = np.where((np.abs(curved - band) < width)[..., None], mix((88, 80, 62), (250, 240, 214), light), glaze)
    wave = np.abs(curved - 357 - 11 * np.sin(np.arcsin(np.clip(across, -1, 1)) * 9)) < 3
    glaze = np.where(wave[..., None], mix((88, 80, 62), (250, 240, 214), light), glaze)
    glaze += ((noise(rng, 7, 16, 0.8) - 0.5) * 20)[..., None]
    shine = np.exp(-(((across + 0.48) / 0.1) ** 2 + ((y - 292) / 30) ** 2))
    glaze += (shine * 150)[..., None]
    mask = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 0.8)[..., None]
    picture[:] = picture * (1 - mask) + glaze * mask
    cv2.ellipse(picture, (282, 181), (38, 8), 0, 0, 360, (14, 18, 32), -1, cv2.LINE_AA)
    cv2.ellipse(picture, (282, 181), (40, 9), 0, 0, 360, (122, 160, 202), 2, cv2.LINE_AA)


def twig(picture: Image, rng: np.random.Generator, foot: tuple[int, int], lean: int, length: int, bend: float) -> None:
    """A twig with leaves on both sides."""
    spots = [
        (int(foot[0] + lean * s + bend * 40 * np.sin(s * 3)), int(foot[1] - length * s * (0.8 + 0.1 * s)))
        for s in np.linspace(0, 1, 26)
    ]
    for start, end in itertools.pairwise(spots):
        cv2.line(picture, start, end, (74, 54, 34), 2, cv2.LINE_AA)
    for index, (px, py) in enumerate(spots[6:]):
        for side in (-1, 1):
            angle = float(rng.uniform(20, 60) * side - 90 + lean * 0.3)
            size = int(rng.uniform(11, 18) * (1 - index / 50))
            tone = rng.uniform(0.75, 1.25)
            reach = np.deg2rad(angle)
            centre = (int(px + np.cos(reach) * size), int(py + np.sin(reach) * size))
            cv2.ellipse(
                picture,
                centre,
                (size, max(3, size // 3)),
                angle,
                0,
                360,
                (62 * tone, 98 * tone, 52 * tone),
                -1,
                cv2.LINE_AA,
            )
            cv2.line(picture, (px, py), centre, (128 * tone, 156 * tone, 96 * tone), 1, cv2.LINE_AA)


def fruit(
    picture: Image,
    rng: np.random.Generator,
    centre: tuple[int, int],
    radius: int,
    skin: tuple[int, int, int],
    blush: tuple[int, int, int],
    *,
    stem: bool,
) -> None:
    """A lit ball with a mottled skin, with a hollow and a stem for an apple."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    dx, dy = (x - centre[0]) / radius, (y - centre[1]) / (radius * 0.94)
    square = dx**2 + dy**2
    z = np.sqrt(np.clip(1 - square, 0, 1))
    light = np.clip(-0.55 * dx - 0.5 * dy + 0.62 * z, 0, 1)
    bounce = 0.16 * np.clip(dy, 0, 1) * np.clip(dx, 0, 1)
    mottle = noise(rng, 7, 12, 0.8)
    streaks = np.clip(0.5 + 0.5 * np.sin(np.arctan2(dx, z + 0.35) * 22 + 5 * mottle), 0, 1) if stem else mottle
    colour = mix(skin, blush, np.clip(0.55 * streaks * mottle + 0.25 * light, 0, 1))
    shaded = colour * (0.24 + 0.86 * light + bounce)[..., None]
    shine = np.exp(-(((dx + 0.36) / 0.13) ** 2 + ((dy + 0.42) / 0.11) ** 2))
    shaded += (shine * 165)[..., None]
    if stem:
        hollow = np.exp(-((dx / 0.3) ** 2 + ((dy + 0.78) / 0.16) ** 2))
        shaded *= (1 - 0.6 * hollow)[..., None]
    mask = cv2.GaussianBlur((square < 1).astype(np.float32), (0, 0), 0.8)[..., None]
    picture[:] = picture * (1 - mask) + shaded * mask
    if stem:
        start = (centre[0], centre[1] - int(radius * 0.72))
        cv2.line(picture, start, (centre[0] + 9, centre[1] - int(radius * 1.12)), (52, 34, 20), 4, cv2.LINE_AA)


PICTURES: dict[str, Callable[[], Image]] = {"landscape": landscape, "still-life": still_life}


def main(directory: Path) -> None:
    """Write every picture as a JPEG of at most 60 kB."""
    for name, draw in PICTURES.items():
        pixels = cv2.cvtColor(np.clip(draw(), 0, 255).astype(np.uint8), cv2.COLOR_RGB2BGR)
        for quality in range(90, 40, -5):
            _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
            if len(data) <= 60_000:
                break
        (directory / f"{name}.jpg").write_bytes(data.tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "assets/images"))
