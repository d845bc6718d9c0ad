"""The three forms in which a picture may arrive: JSON with base64, a multipart form, or the bare bytes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import web

from orchestrator.worker.body import BODY_BYTES_MAX, parse_object, read_body, refuse_early, too_large
from orchestrator.worker.fields import Fields
from orchestrator.worker.problem import Problem

OPERATIONS: Final = ("pencil", "stylise", "enhance", "smooth")
FORMATS: Final = ("png", "jpeg")
SIDE_MIN: Final = 16
SIDE_MAX: Final = 3_072
SIDE_DEFAULT: Final = 2_048
STRENGTH_DEFAULT: Final = 0.5
TEXT_FIELD_BYTES_MAX: Final = 64
FORM_PARTS_MAX: Final = 16
OPTION_NAMES: Final = frozenset({"operation", "strength", "format", "max_side", "colour", "response"})
BLANKS: Final = b" \t\r\n"
INPUT_TYPES: Final = "application/json, multipart/form-data, image/*"


@dataclass(frozen=True, slots=True)
class Job:
    """One picture and what to do with it. `max_side` in pixels; `as_json` wraps the result in base64."""

    data: bytes
    operation: str
    strength: float
    colour: bool
    format: str
    max_side: int
    as_json: bool


async def read_job(request: web.Request) -> Job:
    """Raises Problem: 400 malformed, 413 too large, 415 no such form, 422 a field out of its limits."""
    refuse_early(request)
    media_type = request.content_type.lower()
    # curl -d without -H calls its JSON a form; no other use of that type can carry a picture.
    if media_type in ("application/json", "application/x-www-form-urlencoded"):
        values: Mapping[str, object] = parse_object(await read_body(request))
        data = _from_base64(values.get("image"))
    elif media_type == "multipart/form-data":
        values, data = await _read_form(request)
    elif media_type.startswith("image/") or media_type == "application/octet-stream":
        values, data = dict(request.query), await read_body(request)
    else:
        raise Problem(
            415, "content_type", f"content-type: send one of {INPUT_TYPES}", field="content-type", limit=INPUT_TYPES
        )
    if not data:
        raise Problem(400, "image_missing", "image: the picture is missing or empty", field="image")
    options = {name: value for name, value in values.items() if name != "image"}
    return _job(data, Fields(options, OPTION_NAMES), wants_json=_accepts_json(request))


def _job(data: bytes, fields: Fields, wants_json: bool) -> Job:
    strength = fields.number("strength", 0, 1)
    return Job(
        data=data,
        operation=fields.choice("operation", OPERATIONS, OPERATIONS[0]),
        strength=STRENGTH_DEFAULT if strength is None else strength,
        colour=fields.flag("colour"),
        format=fields.choice("format", FORMATS, FORMATS[0]),
        max_side=fields.integer("max_side", SIDE_MIN, SIDE_MAX) or SIDE_DEFAULT,
        as_json=fields.choice("response", ("image", "json"), "json" if wants_json else "image") == "json",
    )


def _accepts_json(request: web.Request) -> bool:
    accepted = request.headers.get("Accept", "").lower()
    return "application/json" in accepted and "image/" not in accepted


def _from_base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise Problem(400, "image_missing", "image: give base64 or a data: URL", field="image")
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise Problem(400, "invalid_base64", "image: a data: URL must say ;base64", field="image")
    try:
        return base64.b64decode(text.encode("ascii").translate(None, BLANKS), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise Problem(400, "invalid_base64", "image: this is not base64", field="image") from error


async def _read_form(request: web.Request) -> tuple[dict[str, object], bytes]:
    """Field values and the bytes of the file field `image`, counted as they arrive."""
    values: dict[str, object] = {}
    image = b""
    left = BODY_BYTES_MAX
    try:
        reader = await request.multipart()
        for _ in range(FORM_PARTS_MAX):
            part = await reader.next()
            if part is None:
                return values, image
            if not isinstance(part, aiohttp.BodyPartReader):
                raise Problem(400, "invalid_form", "body: parts must not be nested", field="body")
            name = part.name or ""
            limit = left if name == "image" else min(left, TEXT_FIELD_BYTES_MAX)
            data = await _read_part(part, name, limit)
            left -= len(data)
            if name == "image":
                image = data
            else:
                values[name] = data.decode("utf-8", "replace")
    except (ValueError, AssertionError, aiohttp.http.HttpProcessingError) as error:
        raise Problem(400, "invalid_form", "body: this is not multipart/form-data", field="body") from error
    raise Problem(400, "invalid_form", f"body: at most {FORM_PARTS_MAX - 1} parts", field="body", limit=FORM_PARTS_MAX)


async def _read_part(part: aiohttp.BodyPartReader, name: str, limit: int) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk():
        data += chunk
        if len(data) > limit and name == "image":
            raise too_large("image")
        if len(data) > limit:
            raise Problem(413, "field_too_large", f"at most {limit} bytes", field=ascii(name[:40])[1:-1], limit=limit)
    return bytes(data)
