"""The parts without I/O: latencies and picture headers."""

from __future__ import annotations

import random
import statistics

import cv2
import numpy as np
import pytest

from orchestrator.worker.latency import Latency, parse_latency
from orchestrator.worker.pictures import Header, read_header
from orchestrator.worker.problem import Problem


@pytest.mark.parametrize(
    ("text", "form", "values"),
    [
        ("0", "constant", (0.0,)),
        ("0.1", "constant", (0.1,)),
        ("constant:2", "constant", (2.0,)),
        ("exponential:0.1", "exponential", (0.1,)),
        ("lognormal:0.2:0.5", "lognormal", (0.2, 0.5)),
        ("uniform:0.05:0.2", "uniform", (0.05, 0.2)),
    ],
)
def test_latency_forms(text: str, form: str, values: tuple[float, ...]) -> None:
    assert parse_latency(text) == Latency(form, values)


@pytest.mark.parametrize(
    "text",
    ["", "x", "-1", "nan", "inf", "3601", "gauss:1", "uniform:1", "uniform:2:1", "exponential:", "lognormal:1:2:3"],
)
def test_bad_latencies(text: str) -> None:
    with pytest.raises(ValueError, match=r"latency|number|low"):
        parse_latency(text)


@pytest.mark.parametrize(
    ("text", "middle"),
    [("0.3", 0.3), ("exponential:0.1", 0.1 * 0.6931), ("lognormal:0.2:0.5", 0.2), ("uniform:0.1:0.3", 0.2)],
)
def test_draws_have_the_right_median(text: str, middle: float) -> None:
    rng, latency = random.Random(1), parse_latency(text)
    draws = [latency.draw(rng) for _ in range(20_000)]
    assert statistics.median(draws) == pytest.approx(middle, rel=0.03)
    assert min(draws) >= 0


def test_zero_is_zero_in_every_form() -> None:
    rng = random.Random(1)
    for text in ("0", "exponential:0", "lognormal:0:1", "uniform:0:0"):
        assert parse_latency(text).draw(rng) == 0


ENCODINGS = [
    (".png", [], "png"),
    (".jpg", [], "jpeg"),
    (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], "jpeg"),
    (".webp", [cv2.IMWRITE_WEBP_QUALITY, 80], "webp"),
    (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101], "webp"),
    (".bmp", [], "bmp"),
]


@pytest.mark.parametrize(("extension", "settings", "form"), ENCODINGS)
@pytest.mark.parametrize("size", [(1, 1), (300, 200), (257, 1_025)])
@pytest.mark.parametrize("channels", [3, 4])
def test_the_header_tells_the_size_the_decoder_finds(
    extension: str, settings: list[int], form: str, size: tuple[int, int], channels: int
) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (size[1], size[0], channels), np.uint8)
    if channels == 4 and form in ("jpeg", "bmp"):
        pixels = pixels[..., :3].copy()
    data = cv2.imencode(extension, pixels, settings)[1].tobytes()
    assert read_header(data) == Header(form, *size)


@pytest.mark.parametrize(("extension", "settings", "form"), ENCODINGS)
def test_a_header_cut_anywhere_is_a_problem_not_a_crash(extension: str, settings: list[int], form: str) -> None:
    data = cv2.imencode(extension, np.zeros((40, 30, 3), np.uint8), settings)[1].tobytes()
    outcomes = {outcome(data[:length]) for length in range(40)}
    assert outcomes <= {415, 422, Header(form, 30, 40)}


def outcome(data: bytes) -> int | Header:
    try:
        return read_header(data)
    except Problem as problem:
        return problem.status


@pytest.mark.parametrize(
    "data",
    [
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (9_999).to_bytes(3, "little") + (9_999).to_bytes(3, "little"),
        b"RIFF\0\0\0\0WEBPVP8L\x0a\0\0\0\x2f" + ((9_999) | (9_999 << 14)).to_bytes(4, "little") + b"\0" * 8,
        b"BM" + b"\0" * 16 + (40_000).to_bytes(4, "little") + (-40_000).to_bytes(4, "little", signed=True),
        b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc2\x00\x11\x08\xff\xff\xff\xff",
    ],
    ids=["webp", "webp lossless", "bmp upside down", "jpeg"],
)
def test_bombs_are_seen_in_every_format(data: bytes) -> None:
    with pytest.raises(Problem) as refused:
        read_header(data)
    assert (refused.value.status, refused.value.code) == (413, "too_many_pixels")
    assert refused.value.limit == 40_000_000
