"""One call by hand: what is sent, and what the reply says about time and money. No terminal, no network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from app.calling import Outgoing
from app.format import NOTHING, clip, count, latency, money, plain, rate_per_second
from app.loadtest.engine import truthy, whole
from app.present.text import BLANK, Line, Span, Tone, flow, line, wrap
from orchestrator.contract.snapshot import EndpointView, PriceView, Tier, WorkerView

PICTURE_BYTES_MAX: Final = 20 * 1024 * 1024
TEXT_SHOWN_MAX: Final = 64 * 1024
"""Characters of a reply that are shown; the rest is counted, not kept."""
_WORKER_MS: Final = re.compile(r"worker;dur=(\d+(?:\.\d+)?)")


class Body(StrEnum):
    """What a call carries."""

    PROMPT = "prompt"
    IMAGE = "image"
    JSON = "json"


SENDS: Final = {
    Body.PROMPT: "to /v1/chat/completions, streamed",
    Body.IMAGE: "a picture file as the body",
    Body.JSON: "to the model's path, or one below",
}


def usual(kind: str) -> Body:
    """What a model of that kind is usually sent."""
    return {"image": Body.IMAGE, "text": Body.PROMPT}.get(kind, Body.JSON)


class Unsendable(ValueError):
    """A field of the form is no good; the text says why and names the limit."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Draft:
    """The form as typed. `picture` holds the bytes and the media type of the image file."""

    body: Body
    text: str = ""
    path: str = ""
    query: str = ""
    picture: tuple[bytes, str] | None = None


def outgoing(draft: Draft, endpoint: EndpointView, gateway_url: str) -> Outgoing:
    """The call to make. Raises Unsendable."""
    if draft.path and (not draft.path.startswith("/") or not draft.path.isascii() or " " in draft.path):
        raise Unsendable("path", "start it with / and use ASCII without spaces, such as /v1/models")
    query = tuple(_pair(part) for part in draft.query.replace("&", " ").split())
    if draft.body is Body.PROMPT:
        if not draft.text.strip():
            raise Unsendable("text", "type what the model should answer")
        message = {"role": "user", "content": draft.text}
        document = {"model": endpoint.spec.slug, "messages": [message], "stream": True}
        return _post(f"{gateway_url}/v1/chat/completions", json.dumps(document).encode(), "application/json", query)
    url = endpoint.url + draft.path
    if draft.body is Body.IMAGE:
        if draft.picture is None:
            raise Unsendable("file", "name a picture on this machine, such as ~/photo.jpg")
        return _post(url, draft.picture[0], draft.picture[1], query)
    try:
        json.loads(draft.text or "{}")
    except ValueError as error:
        raise Unsendable("text", f"not JSON: {error}") from None
    return _post(url, (draft.text or "{}").encode(), "application/json", query)


def _post(url: str, body: bytes, content_type: str, query: tuple[tuple[str, str], ...]) -> Outgoing:
    return Outgoing("POST", url, body, {"content-type": content_type}, query)


def _pair(part: str) -> tuple[str, str]:
    name, equals, value = part.partition("=")
    if not equals or not name:
        raise Unsendable("query", f"'{clip(plain(part), 40)}' is not name=value")
    return name, value


@dataclass(frozen=True, slots=True)
class Heard:
    """A reply so far. Times in milliseconds from sending; None until it is known."""

    status: int | None = None
    kind: str = ""
    """Media type without parameters."""
    worker_id: str | None = None
    request_id: str | None = None
    queue_ms: int | None = None
    worker_ms: float | None = None
    """From dispatch to the first byte of the worker's reply."""
    cold: bool = False
    first_byte_ms: int | None = None
    elapsed_ms: int = 0
    received: int = 0
    text: str = ""
    tokens: int = 0
    """Pieces that came one by one, of a streamed reply."""
    over: bool = False
    problem: str | None = None
    """Why there is no (complete) reply."""


def heard_head(status: int, headers: Mapping[str, str], elapsed_ms: int) -> Heard:
    """What the head of the reply says."""
    timing = _WORKER_MS.search(headers.get("server-timing", ""))
    return Heard(
        status=status,
        kind=headers.get("content-type", "").partition(";")[0].strip().lower(),
        worker_id=headers.get("x-worker-id"),
        request_id=headers.get("x-request-id"),
        queue_ms=whole(headers.get("x-queue-ms")),
        worker_ms=float(timing[1]) if timing else None,
        cold=truthy(headers.get("x-cold-start")),
        first_byte_ms=elapsed_ms,
        elapsed_ms=elapsed_ms,
    )


class EventStream:
    """Server-sent events as they come, in pieces of any size, to the text they carry."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[str]:
        """The texts of the events that are complete now, in order; empty ones left out."""
        *events, self._rest = re.split(rb"\r?\n\r?\n", self._rest + piece)
        found = [_said(event) for event in events]
        return [text for text in found if text]


def _said(event: bytes) -> str:
    fields = (row.partition(b":") for row in event.splitlines())
    data = b"\n".join(value.removeprefix(b" ") for name, _, value in fields if name == b"data")
    text = data.decode(errors="replace")
    if text == "[DONE]":
        return ""
    try:
        document = json.loads(text)
    except ValueError:
        return text + "\n" if text else ""
    token = _token(document)
    return text + "\n" if token is None else token


def _token(document: Any) -> str | None:
    """What one chunk in OpenAI's form adds; None when it is no such chunk."""
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list):
        return None
    first = choices[0] if choices and isinstance(choices[0], dict) else {}
    delta = first.get("delta")
    said = delta.get("content") if isinstance(delta, dict) else first.get("text")
    return said if isinstance(said, str) else ""


def readable(kind: str, body: bytes) -> str:
    """A whole reply as text: JSON with indents, other text as it is, binary as its size."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return f"{count(len(body))} bytes of {kind or 'unknown type'}"
    if kind.endswith("json"):
        try:
            return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        except ValueError:
            return text
    return text


def reply_rows(heard: Heard, room: int) -> list[Line]:
    """Status, then the body's text, wrapped. Foreign text: cleaned of control characters, never parsed as markup."""
    lines: list[Line] = []
    if heard.problem is not None:
        lines += wrap(f"✖ {plain(heard.problem)}", room, Tone.FAILED)
    if heard.status is not None:
        good = heard.status < 400
        parts = [line(Span(f"{'✔' if good else '✖'} HTTP {heard.status}", Tone.BUSY if good else Tone.FAILED))]
        parts += [line(Span(plain(heard.kind), Tone.MUTED))] if heard.kind else []
        parts.append(line(Span(f"{count(heard.received)} bytes", Tone.MUTED)))
        if heard.tokens:
            parts.append(line(Span(f"{count(heard.tokens)} pieces", Tone.MUTED)))
        lines += [*flow(parts, room), BLANK]
    for row in heard.text.splitlines():
        cleaned = plain(row.expandtabs(4))
        indent = len(cleaned) - len(cleaned.lstrip())
        wrapped = wrap(cleaned, max(room - indent, 8)) or [BLANK]
        lines += [line(" " * indent, each) for each in wrapped]
    if not heard.over and heard.status is not None:
        lines.append(line(Span("▌", Tone.ACCENT)))
    return lines


def timing_rows(heard: Heard, room: int) -> list[Line]:
    """Where the time went: queue (with the cold start in it), worker, transfer; a bar and its figures."""
    if heard.status is None:
        return []
    queue = heard.queue_ms or 0
    worker = round(heard.worker_ms or 0)
    rest = max(heard.elapsed_ms - queue - worker, 0)
    cold = heard.cold and queue > 0
    waited = ("cold start" if cold else "queue", queue, Tone.STARTING if cold else Tone.IDLE)
    parts = [waited, ("worker", worker, Tone.BUSY), ("stream" if heard.tokens else "transfer", rest, Tone.INFO)]
    total = max(sum(span for _, span, _ in parts), 1)
    bar: list[Span] = []
    at, end = 0, 0
    for _, span, tone in parts:
        end += span
        until = min(max(round(end * room / total), at + 1 if span else at), room)
        bar.append(Span("▆" * (until - at), tone))
        at = until
    figures = [line(Span(f"{name} ", tone), Span(latency(span), Tone.STRONG)) for name, span, tone in parts]
    figures.append(line(Span("total ", Tone.MUTED), Span(latency(heard.elapsed_ms), Tone.STRONG)))
    if heard.first_byte_ms is not None:
        figures.append(line(Span("first byte ", Tone.MUTED), Span(latency(heard.first_byte_ms), Tone.STRONG)))
    return [line(*bar), *flow(figures, room)]


def cost_rows(heard: Heard, endpoint: EndpointView, prices: tuple[PriceView, ...], room: int) -> list[Line]:
    """What the worker cost while it was busy with this call. There is no charge per request: it is a share."""
    worker = next((each for each in endpoint.workers if each.id == heard.worker_id), None)
    price = next((each for each in prices if each.gpu_type == endpoint.spec.gpu_type), None)
    if heard.status is None or worker is None or price is None:
        return []
    busy_ms = max(heard.elapsed_ms - (heard.queue_ms or 0), 0)
    rate_uh = price.autoscale_uh if worker.tier is Tier.AUTOSCALE else price.baseline_uh
    share_u = rate_uh * busy_ms // 3_600_000
    sentence = (
        f"{latency(busy_ms)} of {worker.label} at {rate_per_second(rate_uh)} ({_tier(worker)}) is {money(share_u)}. "
        "Its time is charged, not the request."
    )
    return wrap(sentence, room, Tone.MUTED)


def _tier(worker: WorkerView) -> str:
    return worker.tier.value if worker.tier else NOTHING
