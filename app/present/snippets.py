"""How to call an endpoint from curl, Python or JavaScript: complete, to paste. The key is always a variable."""

from __future__ import annotations

from typing import Final

from app.format import clip
from app.present.detail import BODIES, curl
from app.present.text import BLANK, Line, Span, Tone, clip_line, line, wrap
from orchestrator.contract.snapshot import EndpointView

LANGUAGES: Final = ("curl", "Python", "JavaScript")


def snippet(language: str, endpoint: EndpointView, kind: str) -> str:
    """The call in one of LANGUAGES; `kind` is that of the model (ModelView.kind)."""
    if language == "curl":
        return curl(endpoint, kind)
    return _python(endpoint.url, kind) if language == "Python" else _javascript(endpoint.url, kind)


def calling(endpoint: EndpointView, kind: str, language: str, room: int) -> list[Line]:
    """The call, and the keys that copy it and show the next language."""
    code = snippet(language, endpoint, kind)
    shown = (
        wrap(code, room, Tone.INFO)
        if language == "curl"
        else [line(Span(clip(each, room), Tone.INFO)) for each in code.splitlines()]
    )
    names: list[str | Span] = [Span("y", Tone.ACCENT), Span(" copies it   ", Tone.MUTED), Span("c", Tone.ACCENT), " "]
    for name in LANGUAGES:
        names.append(Span(f" {name}", Tone.STRONG if name == language else Tone.FAINT))
    return [*shown, BLANK, clip_line(line(*names), room)]


def _python(url: str, kind: str) -> str:
    """With the standard library alone, except that a picture is sent with `requests`: multipart by hand is none."""
    if kind == "image":
        return "\n".join(
            (
                "import os, pathlib, requests",
                "reply = requests.post(",
                f'    "{url}",',
                '    headers={"x-api-key": os.environ["GPUDECK_KEY"]},',
                '    files={"image": open("photo.jpg", "rb")},',
                "    timeout=600,",
                ")",
                "reply.raise_for_status()",
                'pathlib.Path("out.png").write_bytes(reply.content)',
            )
        )
    return "\n".join(
        (
            "import json, os, urllib.request",
            "request = urllib.request.Request(",
            f'    "{url}",',
            f"    data=json.dumps({BODIES.get(kind, '{}')}).encode(),",
            '    headers={"x-api-key": os.environ["GPUDECK_KEY"],',
            '             "content-type": "application/json"},',
            ")",
            "with urllib.request.urlopen(request, timeout=600) as reply:",
            "    print(reply.read().decode())",
        )
    )


def _javascript(url: str, kind: str) -> str:
    """For Node 20 and later, as a module."""
    if kind == "image":
        return "\n".join(
            (
                'import { readFile, writeFile } from "node:fs/promises";',
                "const form = new FormData();",
                'form.append("image", new Blob([await readFile("photo.jpg")]), "photo.jpg");',
                f'const reply = await fetch("{url}", {{',
                '  method: "POST",',
                '  headers: { "x-api-key": process.env.GPUDECK_KEY },',
                "  body: form,",
                "});",
                "if (!reply.ok) throw new Error(await reply.text());",
                'await writeFile("out.png", Buffer.from(await reply.arrayBuffer()));',
            )
        )
    return "\n".join(
        (
            f'const reply = await fetch("{url}", {{',
            '  method: "POST",',
            '  headers: { "x-api-key": process.env.GPUDECK_KEY,',
            '             "content-type": "application/json" },',
            f"  body: JSON.stringify({BODIES.get(kind, '{}')}),",
            "});",
            "if (!reply.ok) throw new Error(await reply.text());",
            "console.log(await reply.text());",
        )
    )
