"""`sketch` through its real server: forms of input, operations, limits and refusals."""

from __future__ import annotations

import base64
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from tests.waiting import until
from tests.worker.running import ROOT, Worker, running

PICTURE = ROOT / "assets" / "images" / "still-life.jpg"
OPERATIONS = ("pencil", "stylise", "enhance", "smooth")
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def sketch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with running(tmp_path_factory.mktemp("sketch") / "log", "sketch", GPUDECK_WORKER="w7") as worker:
        yield worker


def decoded(data: bytes) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def post(worker: Worker, data: bytes, **options: str) -> httpx.Response:
    return worker.client.post(
        f"{worker.url}/predict", content=data, params=options, headers={"Content-Type": "image/png"}
    )


def small(width: int = 96, height: int = 64) -> np.ndarray:
    return cv2.resize(decoded(PICTURE.read_bytes()), (width, height))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("form", ["png", "jpeg"])
def test_every_operation_changes_the_pixels_and_keeps_the_size(sketch: Worker, operation: str, form: str) -> None:
    source = decoded(PICTURE.read_bytes())
    reply = post(sketch, PICTURE.read_bytes(), operation=operation, format=form)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == f"image/{form}"
    assert reply.headers["x-image-size"] == "512x512"
    assert float(reply.headers["x-model-ms"]) > 0
    assert reply.content.startswith(b"\x89PNG" if form == "png" else b"\xff\xd8")
    result = decoded(reply.content)
    assert result.shape == source.shape
    assert np.abs(result.astype(int) - source).mean() > 2, "the picture came back as it went"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_picture_of_one_pixel_and_one_of_one_row_work(sketch: Worker, operation: str) -> None:
    for width, height in ((1, 1), (300, 1), (1, 300)):
        reply = post(sketch, png(np.full((height, width, 3), 90, np.uint8)), operation=operation)
        assert reply.status_code == 200, reply.text
        assert reply.headers["x-image-size"] == f"{width}x{height}"


def test_operations_differ_from_each_other(sketch: Worker) -> None:
    results = [decoded(post(sketch, png(small()), operation=operation).content) for operation in OPERATIONS]
    for index, one in enumerate(results):
        for other in results[index + 1 :]:
            assert np.abs(one.astype(int) - other).mean() > 2


def test_grey_pencil_is_grey_and_coloured_pencil_is_not(sketch: Worker) -> None:
    grey = decoded(post(sketch, png(small())).content)
    assert (grey[..., 0] == grey[..., 1]).all()
    assert (grey[..., 1] == grey[..., 2]).all()
    coloured = decoded(post(sketch, png(small()), colour="true").content)
    assert (coloured[..., 0] != coloured[..., 2]).any()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_strength_matters(sketch: Worker, operation: str) -> None:
    weak, strong = (decoded(post(sketch, png(small()), operation=operation, strength=s).content) for s in ("0", "1"))
    assert np.abs(weak.astype(int) - strong).mean() > 1


def test_every_form_of_input_gives_the_same_picture(sketch: Worker) -> None:
    data, url = png(small()), f"{sketch.url}/predict"
    text = base64.b64encode(data).decode()
    options = {"operation": "stylise", "strength": "0.8"}
    replies = {
        "bytes": post(sketch, data, **options),
        "octets": sketch.client.post(
            url, content=data, params=options, headers={"Content-Type": "application/octet-stream"}
        ),
        "base64": sketch.predict(image=text, operation="stylise", strength=0.8),
        "wrapped base64": sketch.predict(image=base64.encodebytes(data).decode(), operation="stylise", strength=0.8),
        "data url": sketch.predict(image=f"data:image/png;base64,{text}", operation="stylise", strength=0.8),
        "json called a form": sketch.client.post(
            url,
            content=json.dumps({"image": text, **options}),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        ),
        "multipart": sketch.client.post(url, files={"image": ("a.png", data, "image/png")}, data=options),
        "chunked": sketch.client.post(
            url, content=iter([data[:100], data[100:]]), params=options, headers={"Content-Type": "image/png"}
        ),
    }
    for form, reply in replies.items():
        assert reply.status_code == 200, f"{form}: {reply.text}"
        assert reply.content == replies["bytes"].content, form


@pytest.mark.parametrize("by", ["accept", "field"])
def test_json_reply_carries_the_same_picture(sketch: Worker, by: str) -> None:
    data = png(small())
    body: dict[str, object] = {"image": base64.b64encode(data).decode(), "operation": "smooth", "strength": 1}
    headers = {"Accept": "application/json"} if by == "accept" else {}
    if by == "field":
        body["response"] = "json"
    reply = sketch.client.post(f"{sketch.url}/predict", json=body, headers=headers)
    document = reply.json()
    assert base64.b64decode(document["image"]) == post(sketch, data, operation="smooth", strength="1").content
    assert (document["width"], document["height"], document["format"]) == (96, 64, "png")
    assert (document["operation"], document["strength"], document["worker"]) == ("smooth", 1, "w7")


def test_max_side_scales_down_and_never_up(sketch: Worker) -> None:
    assert post(sketch, png(small()), max_side="48").headers["x-image-size"] == "48x32"
    assert post(sketch, png(small()), max_side="3000").headers["x-image-size"] == "96x64"


def test_transparent_parts_become_white(sketch: Worker) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :32] = (200, 80, 20, 255)
    result = decoded(post(sketch, png(pixels), operation="smooth").content)
    assert (result[:, 40:] > 245).all()
    assert abs(int(result[32, 10, 0]) - 200) < 8


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_depth_and_number_of_channels_is_read(sketch: Worker, dtype: type, channels: int) -> None:
    top = np.iinfo(dtype).max
    pixels = np.full((32, 32, channels), top // 2, dtype)
    if channels == 4:
        pixels[..., 3] = top
    result = decoded(post(sketch, png(pixels), operation="smooth").content)
    assert result.shape == (32, 32, 3)
    assert np.abs(result.astype(int) - 127).max() <= 4


@pytest.mark.parametrize("extension", [".jpg", ".webp", ".bmp"])
def test_other_formats_are_read(sketch: Worker, extension: str) -> None:
    data = cv2.imencode(extension, small())[1].tobytes()
    assert post(sketch, data, operation="smooth").headers["x-image-size"] == "96x64"


def bomb_png(width: int, height: int) -> bytes:
    """A header that promises width x height pixels, and no pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


GOOD = base64.b64encode(png(np.zeros((20, 20, 3), np.uint8))).decode()
FORM = "multipart/form-data; boundary=b"
REFUSALS: list[tuple[str, str, bytes, int, str, str]] = [
    # content type, query, body, status, code, field
    ("text/plain", "", b"hello", 415, "content_type", "content-type"),
    ("", "", b"hello", 415, "image_format", "image"),
    ("application/json", "", b"{", 400, "invalid_json", "body"),
    ("application/json", "", b"[" * 100_000, 400, "invalid_json", "body"),
    ("application/json", "", b"9" * 10_000, 400, "invalid_json", "body"),
    ("application/json", "", b"\xff\xfe{}", 400, "invalid_json", "body"),
    ("application/json", "", b"[1]", 400, "invalid_json", "body"),
    ("application/json", "", b"{}", 400, "image_missing", "image"),
    ("application/json", "", b'{"image": 7}', 400, "image_missing", "image"),
    ("application/json", "", b'{"image": ""}', 400, "image_missing", "image"),
    ("application/json", "", b'{"image": "%%%"}', 400, "invalid_base64", "image"),
    ("application/json", "", '{"image": "é"}'.encode(), 400, "invalid_base64", "image"),
    ("application/json", "", b'{"image": "data:image/png,abc"}', 400, "invalid_base64", "image"),
    ("application/json", "", b'{"image": "aGVsbG8="}', 415, "image_format", "image"),
    ("application/json", "", b'{"image": "%s", "sterngth": 1}' % GOOD.encode(), 422, "unknown_field", "sterngth"),
    ("application/json", "", b'{"image": "%s", "strength": 1.5}' % GOOD.encode(), 422, "invalid_field", "strength"),
    ("application/json", "", b'{"image": "%s", "strength": true}' % GOOD.encode(), 422, "invalid_field", "strength"),
    ("application/json", "", b'{"image": "%s", "strength": NaN}' % GOOD.encode(), 422, "invalid_field", "strength"),
    ("application/json", "", b'{"image": "%s", "colour": "so"}' % GOOD.encode(), 422, "invalid_field", "colour"),
    ("application/json", "", b'{"image": "%s", "format": "gif"}' % GOOD.encode(), 422, "invalid_field", "format"),
    ("image/png", "operation=blur", png(small()), 422, "invalid_field", "operation"),
    ("image/png", "strength=-0.1", png(small()), 422, "invalid_field", "strength"),
    ("image/png", "strength=nan", png(small()), 422, "invalid_field", "strength"),
    ("image/png", "strength=much", png(small()), 422, "invalid_field", "strength"),
    ("image/png", "max_side=15", png(small()), 422, "invalid_field", "max_side"),
    ("image/png", "max_side=3073", png(small()), 422, "invalid_field", "max_side"),
    ("image/png", "max_side=99.5", png(small()), 422, "invalid_field", "max_side"),
    ("image/png", "", b"", 400, "image_missing", "image"),
    ("image/png", "", b"GIF89a", 415, "image_format", "image"),
    ("image/png", "", png(small())[:200], 422, "image_broken", "image"),
    ("image/png", "", b"\xff\xd8\xff\xe0\x00", 422, "image_broken", "image"),
    ("image/png", "", bomb_png(0, 9), 422, "image_broken", "image"),
    ("image/png", "", bomb_png(30_000, 30_000), 413, "too_many_pixels", "image"),
    (FORM, "", b"no boundary here", 400, "invalid_form", "body"),
    ("multipart/form-data", "", b"x", 400, "invalid_form", "body"),
    (FORM, "", b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--b--\r\n", 400, "image_missing", "image"),
    (
        FORM,
        "",
        b'--b\r\nContent-Disposition: form-data; name="strength"\r\n\r\n' + b"1" * 100 + b"\r\n--b--\r\n",
        413,
        "field_too_large",
        "strength",
    ),
    (
        FORM,
        "",
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 20 + b"--b--\r\n",
        400,
        "invalid_form",
        "body",
    ),
]


@pytest.mark.parametrize(("media_type", "query", "body", "status", "code", "field"), REFUSALS)
def test_bad_input_is_refused_by_name(
    sketch: Worker, media_type: str, query: str, body: bytes, status: int, code: str, field: str
) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    reply = sketch.client.post(f"{sketch.url}/predict?{query}", content=body, headers=headers)
    problem = reply.json()
    assert (reply.status_code, problem["code"], problem.get("field")) == (status, code, field), reply.text
    assert reply.headers["content-type"].startswith("application/problem+json")
    assert problem["status"] == status
    assert len(problem["detail"]) > 10


def test_a_declared_length_over_the_limit_is_refused_before_the_body(sketch: Worker) -> None:
    url = httpx.URL(sketch.url)
    lines = (
        "POST /predict HTTP/1.1",
        f"Host: {url.host}",
        "Content-Type: image/png",
        f"Content-Length: {25 * MIB + 1}",
    )
    head = "\r\n".join(lines) + "\r\n\r\n"
    with socket.create_connection((url.host, url.port), 10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("form", ["chunked", "multipart"])
def test_a_body_that_grows_over_the_limit_is_refused(sketch: Worker, form: str) -> None:
    prefix = b"" if form == "chunked" else b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
    media_type = "image/png" if form == "chunked" else FORM

    def pieces() -> Iterator[bytes]:
        yield prefix
        for _ in range(27):
            yield b"\0" * MIB

    reply = sketch.client.post(f"{sketch.url}/predict", content=pieces(), headers={"Content-Type": media_type})
    assert reply.status_code == 413
    assert reply.json()["code"] == "body_too_large"
    assert reply.json()["limit"] == 25 * MIB


def test_a_compressed_body_is_refused_not_inflated(sketch: Worker) -> None:
    reply = sketch.client.post(
        f"{sketch.url}/predict", content=b"x", headers={"Content-Type": "image/png", "Content-Encoding": "gzip"}
    )
    assert (reply.status_code, reply.json()["code"]) == (415, "content_encoding")


def test_health_answers_while_a_filter_runs(sketch: Worker) -> None:
    noise = np.random.default_rng(3).integers(0, 255, (1_000, 1_000, 3), np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    with ThreadPoolExecutor(1) as pool, httpx.Client(timeout=60, trust_env=False) as other:
        before = sketch.log().count("POST /predict")
        working = pool.submit(
            other.post, f"{sketch.url}/predict?operation=stylise", content=data, headers={"Content-Type": "image/jpeg"}
        )
        answered = 0
        while not working.done():
            assert sketch.health() == 200
            answered += 1
        assert working.result().status_code == 200
        assert answered > 5, "health waited for the filter"
    assert sketch.log().count("POST /predict") == before + 1


def test_other_routes_are_problems_and_the_root_describes_the_model(sketch: Worker) -> None:
    missing = sketch.client.get(f"{sketch.url}/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    wrong = sketch.client.get(f"{sketch.url}/predict")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    about = sketch.about()
    assert about["model"] == "sketch"
    assert about["ready"] is True
    assert about["limits"] == {"body_bytes": 25 * MIB, "pixels": 40_000_000}


async def test_one_line_per_request_and_none_for_good_health_probes(sketch: Worker) -> None:
    sketch.client.get(f"{sketch.url}/no%0Asuch?%1b[31m")
    await until(lambda: "/no%0Asuch" in sketch.log())  # the line is written after the reply
    line = next(each for each in sketch.log().splitlines() if "/no%0Asuch" in each)
    assert " 404 " in line
    assert "\x1b" not in sketch.log()
    assert sketch.health() == 200
    assert "/health 200" not in sketch.log()
    assert "OpenCV 5" in sketch.log()


def test_the_samples_are_pictures_of_the_promised_size() -> None:
    files = sorted(Path(ROOT / "assets" / "images").glob("*.jpg"))
    assert len(files) >= 2
    for file in files:
        assert file.stat().st_size <= 60_000
        assert decoded(file.read_bytes()).shape == (512, 512, 3)
