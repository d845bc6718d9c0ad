"""`echo`: a model of tunable latency, size, tokens and failures, for load and fault tests."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from orchestrator.worker import faults
from orchestrator.worker.body import parse_object, read_body
from orchestrator.worker.chat import ChatReply
from orchestrator.worker.fields import Fields
from orchestrator.worker.latency import SECONDS_MAX, parse_latency
from orchestrator.worker.problem import Problem
from orchestrator.worker.replies import Content, Drop, send, stream_events

OPTION_NAMES: Final = frozenset(
    {
        "latency_s", "tokens", "tokens_per_s", "stream", "bytes", "status", "memory_mb", "echo", "fail", "code",
        "body_s",
    }
)  # fmt: skip
BYTES_MAX: Final = 1024**3
TOKENS_MAX: Final = 100_000
TOKENS_PER_S: Final = 50.0
MEMORY_MB_MAX: Final = 1_048_576
OOM_STEP_MB: Final = 64
OOM_LIMIT_MB: Final = 2_048
HALF_BYTES: Final = 65_536
WORDS: Final = ("every", "good", "bench", "needs", "a", "model", "that", "does", "as", "it", "is", "told")


@dataclass(frozen=True, slots=True)
class Options:
    """What one request asks for: seconds (`_s`), MiB (`memory_mb`), bytes of the reply's body (`size`)."""

    latency_s: float | None
    tokens: int
    tokens_per_s: float
    stream: bool
    size: int | None
    status: int
    memory_mb: int
    echo: object
    fail: str | None
    code: int
    body_s: float


def read_options(values: Mapping[str, object]) -> Options:
    """Raises Problem 422 naming the field and its limit."""
    fields = Fields(values, OPTION_NAMES)
    fail = fields.choice("fail", ("none", *faults.FAULTS), "none")
    tokens = fields.integer("tokens", 0, TOKENS_MAX)
    stream = fields.flag("stream")
    return Options(
        latency_s=fields.number("latency_s", 0, SECONDS_MAX),
        tokens=tokens if tokens is not None else (16 if stream else 0),
        tokens_per_s=fields.number("tokens_per_s", 0.01, 1e6) or TOKENS_PER_S,
        stream=stream,
        size=fields.integer("bytes", 0, BYTES_MAX),
        status=fields.integer("status", 200, 599) or 200,
        memory_mb=fields.integer("memory_mb", 0, MEMORY_MB_MAX) or 0,
        echo=fields.get("echo"),
        fail=None if fail == "none" else fail,
        code=1 if (code := fields.integer("code", 0, 255)) is None else code,
        body_s=2.0 if (body_s := fields.number("body_s", 0, SECONDS_MAX)) is None else body_s,
    )


def words(count: int) -> list[str]:
    """`count` tokens, the same ones for every request."""
    return [WORDS[index % len(WORDS)] for index in range(count)]


class Echo:
    """Environment: ECHO_STARTUP_S, ECHO_LATENCY, ECHO_MEMORY_MB, ECHO_SEED, ECHO_OOM_LIMIT_MB, GPUDECK_WORKER.

    Raises ValueError naming the variable at fault.
    """

    name = "echo"
    cancels = True

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.healthy = True
        self._worker = environ.get("GPUDECK_WORKER", "local")
        self._startup_s = _variable(environ, "ECHO_STARTUP_S", 0.0, SECONDS_MAX)
        self._memory_mb = int(_variable(environ, "ECHO_MEMORY_MB", 0, MEMORY_MB_MAX))
        self._oom_limit_mb = int(_variable(environ, "ECHO_OOM_LIMIT_MB", OOM_LIMIT_MB, MEMORY_MB_MAX))
        try:
            self._latency = parse_latency(environ.get("ECHO_LATENCY", "0"))
        except ValueError as error:
            raise ValueError(f"ECHO_LATENCY: {error}") from error
        self._rng = random.Random(environ.get("ECHO_SEED"))  # noqa: S311  # delays, not secrets
        self._held = bytearray()
        self._served = 0

    async def load(self) -> str:
        self._held = await asyncio.to_thread(faults.held_memory, self._memory_mb)
        await asyncio.sleep(self._startup_s)
        return f"latency {self._latency.form} {self._latency.values}, {self._memory_mb} MiB held"

    def describe(self) -> dict[str, object]:
        return {
            "summary": "Answers as it is told: latency, size, tokens, streaming, failures.",
            "predict": {"path": "/predict", "options": sorted(OPTION_NAMES), "fail": list(faults.FAULTS)},
            "worker": self._worker,
            "served": self._served,
        }

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/predict", self._predict),
            web.post("/v1/chat/completions", self._chat),
            web.get("/ws", self._websocket),
            web.route("*", "/{path:.*}", self._mirror),
        ]

    def close(self) -> None:
        self._held = bytearray()

    async def _predict(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request)
        if request.content_type == "application/json" or body[:1] == b"{":
            options = read_options(parse_object(body) if body.strip() else {})
        else:
            options = read_options(dict(request.query))
        number, latency_s = await self._work(options)
        document: dict[str, object] = {
            "worker": self._worker,
            "request": number,
            "latency_s": round(latency_s, 6),
            "received_bytes": len(body),
        }
        drop = Drop(half=options.fail == "half", slow_s=options.body_s if options.fail == "slow_body" else 0.0)
        if options.stream:
            events = [json.dumps({**document, "index": i, "token": t}) for i, t in enumerate(words(options.tokens))]
            return await stream_events(request, events, 1 / options.tokens_per_s, drop, options.status)
        if options.tokens:
            await asyncio.sleep(options.tokens / options.tokens_per_s)
            document |= {"tokens": options.tokens, "text": " ".join(words(options.tokens))}
        if options.echo is not None:
            document["echo"] = options.echo
        if options.size is None and not drop.half:
            content = Content.of(json.dumps(document).encode(), "application/json")
        else:
            content = Content.filler(HALF_BYTES if options.size is None else options.size)
        headers = {"x-echo-worker": ascii(self._worker)[1:-1], "x-echo-request": str(number)}
        return await send(request, content, options.status, headers, drop)

    async def _work(self, options: Options) -> tuple[int, float]:
        """Take the time and the memory asked for, then fail if asked to. Returns the request's number and latency."""
        self._served += 1
        number = self._served
        latency_s = self._latency.draw(self._rng) if options.latency_s is None else options.latency_s
        wanted_mb = 0 if options.fail == "oom" else options.memory_mb
        held = await asyncio.to_thread(faults.held_memory, wanted_mb) if wanted_mb else bytearray()
        try:
            if latency_s:
                await asyncio.sleep(latency_s)
        finally:
            # Dropping the name is not enough: the thread's future is in a cycle and keeps the block until a collection.
            held.clear()
        if options.fail == "exit":
            faults.exit_now(options.code)
        if options.fail == "crash":
            faults.crash()
        if options.fail == "hang":
            await faults.hang()
        if options.fail == "oom":
            await faults.eat_memory(options.memory_mb or OOM_STEP_MB, self._oom_limit_mb)
        if options.fail == "unhealthy":
            self.healthy = False
        return number, latency_s

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        """The OpenAI form: `max_tokens` (or `tokens`) words, our own options beside the standard ones."""
        values = parse_object(await read_body(request))
        if not isinstance(values.get("messages"), list):
            raise Problem(422, "invalid_field", "messages: give a list of messages", field="messages")
        ours = {name: value for name, value in values.items() if name in OPTION_NAMES}
        limit = values.get("max_completion_tokens", values.get("max_tokens"))
        ours.setdefault("tokens", 16 if limit is None else limit)
        options = read_options(ours)
        number, _ = await self._work(options)
        model = values.get("model")
        reply = ChatReply(f"chatcmpl-{number}", model if isinstance(model, str) else self.name, words(options.tokens))
        drop = Drop(half=options.fail == "half", slow_s=options.body_s if options.fail == "slow_body" else 0.0)
        if options.stream:
            return await stream_events(request, reply.events(), 1 / options.tokens_per_s, drop, options.status)
        await asyncio.sleep(options.tokens / options.tokens_per_s)
        content = Content.of(json.dumps(reply.document()).encode(), "application/json")
        return await send(request, content, options.status, {}, drop)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        raise Problem(501, "websocket", "this model speaks no WebSocket")

    async def _mirror(self, request: web.Request) -> web.StreamResponse:
        """Any other path: what arrived here, byte for byte, so that a proxy in between can be checked."""
        digest = hashlib.sha256()
        size = 0
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            size += len(chunk)
        raw = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
        return web.json_response(
            {
                "worker": self._worker,
                "method": request.method,
                "target": request.raw_path,
                "path": request.raw_path.partition("?")[0],
                "query": request.raw_path.partition("?")[2],
                "version": f"{request.version.major}.{request.version.minor}",
                "headers": raw,
                "body_bytes": size,
                "body_sha256": digest.hexdigest(),
            }
        )


def _variable(environ: Mapping[str, str], name: str, default: float, high: float) -> float:
    """A number of the environment in 0..high. Raises ValueError naming it."""
    text = environ.get(name, "")
    try:
        value = float(text) if text else float(default)
    except ValueError as error:
        raise ValueError(f"{name}: {text[:40]!a} is no number") from error
    if not 0 <= value <= high:
        raise ValueError(f"{name}: give a number from 0 to {high:g}")
    return value
