"""`gpudeck call`: one request through the gateway, its reply as it arrives."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

import httpx

from app.calling import PROBLEM_TYPE, CallFailed, Outgoing, calling
from app.cli.exits import CliError, Exit
from app.cli.options import Settings
from app.cli.output import print_json, say
from app.cli.session import Session, talk
from app.client import command_id
from app.format import plain
from app.loadtest.engine import truthy, whole
from orchestrator.contract.command import CreateKey

KEY_TTL_S: Final = 60
"""A key is checked when the request arrives; a reply may take longer than the key lives."""
STATUS_EXITS: Final = {
    401: Exit.REFUSED,
    402: Exit.REFUSED,
    403: Exit.REFUSED,
    404: Exit.NOT_FOUND,
    429: Exit.REFUSED,
    503: Exit.REFUSED,
    504: Exit.TIMEOUT,
}
"""For the gateway's own answers. A worker's error is 1 whatever its status."""
FAILURE_EXITS: Final = {
    "timeout": Exit.TIMEOUT,
    "unreachable": Exit.NOT_RUNNING,
    "broken": Exit.FAILURE,
    "url": Exit.USAGE,
}
BODY_IN_JSON_MAX: Final = 1024 * 1024
PROBLEM_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """The options of one call, as given."""

    slug: str
    image: str | None = None
    json_text: str | None = None
    data: str | None = None
    out: str | None = None
    path: str = ""
    query: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    method: str = "POST"
    key: str | None = None
    timeout: float = 1_200.0


def send_request(settings: Settings, call: Call) -> None:
    """Raises CliError with the code of STATUS_EXITS for a refusal of the gateway, 1 for an error of the worker."""
    request = prepare(call)
    if call.path and not call.path.startswith("/"):
        raise CliError(f"--path: '{call.path}' must start with /", Exit.USAGE)

    async def work(session: Session) -> None:
        view, _ = await session.endpoint(call.slug)
        key = call.key or await short_lived_key(session, view.spec.account)
        outgoing = replace(request, url=view.url + call.path)
        try:
            async with calling(outgoing, key, call.timeout) as (response, started):
                await show_reply(settings, call, response, started)
        except CallFailed as failure:
            option = "--path: " if failure.reason == "url" else ""
            raise CliError(f"{option}{failure}", FAILURE_EXITS[failure.reason]) from failure

    talk(work)


def prepare(call: Call) -> Outgoing:
    """Read the body and check the options; the URL is still to come. Raises CliError naming the option at fault."""
    sources = [
        name for name, value in (("--image", call.image), ("--json", call.json_text), ("--data", call.data)) if value
    ]
    if len(sources) > 1:
        raise CliError(f"{' and '.join(sources)}: give one body, not {len(sources)}", Exit.USAGE)
    headers: dict[str, str] = {}
    body: bytes | None = None
    if call.image:
        body = _read("--image", call.image)
        headers["content-type"] = mimetypes.guess_type(call.image)[0] or "application/octet-stream"
    elif call.json_text:
        body = _json_body(call.json_text)
        headers["content-type"] = "application/json"
    elif call.data:
        body = sys.stdin.buffer.read() if call.data == "-" else _read("--data", call.data)
        headers["content-type"] = "application/octet-stream"
    for text in call.header:
        name, colon, value = text.partition(":")
        if not colon or not name.strip() or not (text.isascii() and text.isprintable()):
            raise CliError(f"--header: '{plain(text)}' is not 'Name: value' in printable ASCII", Exit.USAGE)
        headers[name.strip().lower()] = value.strip()
    query = []
    for text in call.query:
        name, equals, value = text.partition("=")
        if not equals:
            raise CliError(f"--query: '{text}' is not K=V", Exit.USAGE)
        query.append((name, value))
    if not (call.method.isascii() and call.method.isalpha()):
        raise CliError(f"--method: '{plain(call.method)}' is no HTTP method", Exit.USAGE)
    return Outgoing(call.method.upper(), "", body, headers, tuple(query))


def _read(option: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CliError(f"{option}: cannot read {path}: {error.strerror}", Exit.USAGE) from error


def _json_body(text: str) -> bytes:
    body = _read("--json", text[1:]) if text.startswith("@") else text.encode()
    try:
        json.loads(body)
    except ValueError as error:
        raise CliError(f"--json: not JSON: {error}", Exit.USAGE) from error
    return body


async def short_lived_key(session: Session, account: str) -> str:
    made = await session.send(CreateKey(id=command_id(), account=account, name="gpudeck call", ttl_s=KEY_TTL_S))
    if made.secret is None:
        # The first answer was lost and its repetition has no secret (contract/command.py): a new key is the only way.
        made = await session.send(CreateKey(id=command_id(), account=account, name="gpudeck call", ttl_s=KEY_TTL_S))
    assert made.secret is not None, "the answer to a fresh CreateKey carries its secret"
    return made.secret


async def show_reply(settings: Settings, call: Call, response: httpx.Response, started: float) -> None:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == PROBLEM_TYPE and response.status_code >= 400:
        await raise_problem(settings, response)
    if settings.json:
        body = await response.aread()
        if call.out:
            _write_file(call.out, body)
        print_json(_summary(call, response, kind, body, _elapsed_ms(started)))
    else:
        with _sink(call, kind) as sink:
            async for chunk in response.aiter_bytes():
                sink.write(chunk)
                sink.flush()
        say(_talk_line(response, _elapsed_ms(started), call.out))
    if response.status_code >= 400:
        raise CliError(f"the worker answered HTTP {response.status_code}")


async def raise_problem(settings: Settings, response: httpx.Response) -> None:
    """The gateway said no: its problem document becomes the error message."""
    raw = (await response.aread())[:PROBLEM_BYTES_MAX]
    try:
        document = json.loads(raw)
    except ValueError:
        document = {}
    problem: dict[str, Any] = document if isinstance(document, dict) else {}
    text = problem.get("detail") or problem.get("title") or f"HTTP {response.status_code}"
    if settings.json:
        print_json({"status": response.status_code, "problem": problem})
    retry = response.headers.get("retry-after")
    hint = f"Try again in {plain(retry)} s." if retry else ""
    from_worker = response.headers.get("x-worker-id") is not None
    code = Exit.FAILURE if from_worker else STATUS_EXITS.get(response.status_code, Exit.FAILURE)
    raise CliError(plain(f"HTTP {response.status_code}: {text}"), code, hint)


def _summary(call: Call, response: httpx.Response, kind: str, body: bytes, elapsed_ms: int) -> dict[str, object]:
    summary: dict[str, object] = {
        "status": response.status_code,
        "worker": response.headers.get("x-worker-id"),
        "request_id": response.headers.get("x-request-id"),
        "queue_ms": whole(response.headers.get("x-queue-ms")),
        "cold_start": truthy(response.headers.get("x-cold-start")),
        "elapsed_ms": elapsed_ms,
        "content_type": kind,
        "bytes": len(body),
        "out": call.out,
    }
    if not call.out and len(body) <= BODY_IN_JSON_MAX:
        summary["body"] = _readable(kind, body)
    return summary


def _readable(kind: str, body: bytes) -> object:
    """The body as JSON or text; None for anything binary."""
    try:
        text = body.decode()
        return json.loads(text) if kind == "application/json" else text
    except ValueError:
        return None


def _talk_line(response: httpx.Response, elapsed_ms: int, out: str | None) -> str:
    headers = response.headers
    parts = [f"HTTP {response.status_code}"]
    if headers.get("x-worker-id"):
        parts.append(f"worker {headers['x-worker-id']}")
    if headers.get("x-queue-ms") is not None:
        parts.append(f"queued {headers['x-queue-ms']} ms")
    if truthy(headers.get("x-cold-start")):
        parts.append("cold start")
    parts.append(f"{elapsed_ms} ms")
    if headers.get("server-timing"):
        parts.append(headers["server-timing"])
    if out:
        parts.append(f"→ {out}")
    return plain(" · ".join(parts))


def _elapsed_ms(started: float) -> int:
    return round((asyncio.get_running_loop().time() - started) * 1_000)


class _Guarded:
    """stdout that refuses bytes a terminal would choke on."""

    def __init__(self, stream: IO[bytes], terminal: bool) -> None:
        self._stream = stream
        self._terminal = terminal

    def __enter__(self) -> _Guarded:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.flush()

    def write(self, chunk: bytes) -> object:
        if self._terminal and any(byte < 32 and byte not in (9, 10, 13) for byte in chunk):
            raise CliError("the reply is binary: give --out FILE, or send stdout to a file", Exit.USAGE)
        return self._stream.write(chunk)

    def flush(self) -> None:
        self._stream.flush()


def _sink(call: Call, kind: str) -> IO[bytes] | _Guarded:
    """Where the reply goes. Raises CliError for a picture about to be dumped on a terminal."""
    if call.out:
        try:
            return Path(call.out).open("wb")
        except OSError as error:
            raise CliError(f"--out: cannot write {call.out}: {error.strerror}", Exit.USAGE) from error
    terminal = sys.stdout.isatty()
    if terminal and kind.split("/")[0] in ("image", "audio", "video"):
        raise CliError(f"the reply is {plain(kind)}: give --out FILE, or send stdout to a file", Exit.USAGE)
    return _Guarded(sys.stdout.buffer, terminal)


def _write_file(path: str, body: bytes) -> None:
    try:
        Path(path).write_bytes(body)
    except OSError as error:
        raise CliError(f"--out: cannot write {path}: {error.strerror}", Exit.USAGE) from error
