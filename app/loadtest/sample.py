"""The request that a load test repeats, by the kind of the model."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from app.calling import Outgoing
from app.demo.pictures import load_pictures
from app.loadtest.job import Job
from app.loadtest.shapes import Shape, due
from app.present.playground import Body, Draft, outgoing, usual
from orchestrator.contract.snapshot import EndpointView

USUAL: Final = {Body.IMAGE: "operation=stylise", Body.PROMPT: "Say hello.", Body.JSON: '{"tokens": 20}'}
"""What is sent when nothing else is said: the query of a shipped picture, a prompt, or JSON."""


def sample_call(kind: str, typed: str | None, endpoint: EndpointView, gateway_url: str) -> Outgoing:
    """The call for a model of that kind; `typed` replaces what is usual. Raises Unsendable."""
    body = usual(kind)
    text = USUAL[body] if typed is None else typed
    if body is Body.IMAGE:
        picture = load_pictures()[0]
        draft = Draft(body, query=text, picture=(picture.data, picture.content_type))
    else:
        draft = Draft(body, text=text)
    return outgoing(draft, endpoint, gateway_url)


def job_of(call: Outgoing, shape: Shape) -> Job:
    """The load of `shape` made of `call`."""
    content_type = call.headers.get("content-type", "application/octet-stream")
    return Job(call.url, tuple(due(shape)), call.body or b"", content_type, urlencode(call.query))
