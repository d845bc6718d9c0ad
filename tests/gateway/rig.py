"""A gateway on a real port with real lanes and workers, and a caller that speaks raw HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from orchestrator.clock import system_now
from orchestrator.contract.base import SECOND_NS
from orchestrator.contract.endpoint import Visibility
from orchestrator.core.lane import Lane, Slot
from orchestrator.core.routing import KeyGrant, Route, RoutingTable
from orchestrator.core.traffic import Meter
from orchestrator.gateway.inbound import ClientConnection
from orchestrator.gateway.limits import Access, Limits
from orchestrator.gateway.server import Gateway
from tests.gateway.upstreams import Upstream
from tests.waiting import until

KEY = "gd_k1_owner"
OTHER_KEY = "gd_k2_other"
PATIENCE_S = 15.0
"""A reply that does not come in this time fails the test (pytest's own time-out cannot interrupt uvloop)."""
SWEEP_S = 0.02
"""Between two looks at the deadlines: often enough that a test of one need not wait for it."""


@dataclass
class Reply:
    """A reply as it came, decoded strictly. `interim` are the statuses of 1xx replies before it."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes = b""
    interim: list[int] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        values = [value for key, value in self.fields if key == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    def json(self) -> dict[str, object]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value

    @property
    def code(self) -> object:
        """The machine code of a problem document."""
        assert self.get("content-type") == "application/problem+json", self
        problem = self.json()
        assert problem["status"] == self.status
        assert problem["request_id"] == self.get("x-request-id")
        assert {"type", "title", "detail"} <= problem.keys()
        return problem["code"]


class Caller:
    """One client connection."""

    patience_s = PATIENCE_S

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes | str) -> None:
        self.writer.write(data.encode("latin-1") if isinstance(data, str) else data)

    def request(self, method: str, target: str, *lines: str, body: bytes = b"", key: str | None = KEY) -> None:
        head = [f"{method} {target} HTTP/1.1", "Host: localhost", *lines]
        if key is not None:
            head.append(f"x-api-key: {key}")
        if body:
            head.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    async def head(self) -> Reply:
        async with asyncio.timeout(self.patience_s):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        pairs = [line.split(": ", 1) for line in lines[1:]]
        return Reply(int(status), [(name.lower(), value) for name, value in pairs])

    async def reply(self, *, head_only: bool = False) -> Reply:
        """The next final reply, whole. Raises IncompleteReadError when it is cut off."""
        interim: list[int] = []
        while (reply := await self.head()).status < 200:
            interim.append(reply.status)
        reply.interim = interim
        if head_only or reply.status in (204, 304):
            return reply
        if reply.get("transfer-encoding") == "chunked":
            assert reply.get("content-length") is None
            while chunk := await self.chunk():
                reply.body += chunk
            return reply
        length = reply.get("content-length")
        async with asyncio.timeout(self.patience_s):
            reply.body = await (self.reader.read() if length is None else self.reader.readexactly(int(length)))
        return reply

    async def chunk(self) -> bytes:
        """The next chunk; empty at the end of the body."""
        async with asyncio.timeout(self.patience_s):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def closed(self) -> bytes:
        """What still comes before the gateway closes the connection."""
        async with asyncio.timeout(self.patience_s):
            return await self.reader.read()

    def close(self) -> None:
        self.writer.transport.abort()


class Clock:
    """The system's clock, plus what the test has skipped."""

    def __init__(self) -> None:
        self._now = system_now()
        self._skipped_ns = 0

    def __call__(self) -> int:
        return self._now() + self._skipped_ns

    def skip(self, seconds: float) -> None:
        self._skipped_ns += int(seconds * SECOND_NS)


class Rig:
    """Everything a test needs; `finish` checks that nothing is left behind."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.now: Callable[[], int] = self.clock
        self.table = RoutingTable(ready=True)
        self.table.keys[hashlib.sha256(KEY.encode()).digest()] = KeyGrant("k1", "local")
        self.table.keys[hashlib.sha256(OTHER_KEY.encode()).digest()] = KeyGrant("k2", "other")
        self.table.balances_u = {"local": 25_500_000, "other": 1}
        self.route = self.add_route("sketch")
        self.lane = self.route.lane
        self.upstreams: list[Upstream] = []
        self.callers: list[Caller] = []

    @classmethod
    async def started(cls, limits: Limits | None = None, access: Access | None = None) -> Rig:
        rig = cls()
        await rig.listen(limits, access)
        return rig

    async def listen(
        self, limits: Limits | None = None, access: Access | None = None, *, sweep_s: float = SWEEP_S
    ) -> None:
        """(Re)start the gateway with other limits, of which `sweep_s` is not taken but the argument of that name."""
        if hasattr(self, "gateway"):
            await self.gateway.close()
        self.gateway = Gateway(self.table, self.now, replace(limits or Limits(), sweep_s=sweep_s), access)
        await self.gateway.start("127.0.0.1", 0)

    async def skip(self, seconds: float) -> None:
        """Let time pass at once, and return when the deadlines have been looked at. A test that makes a deadline short
        instead has to be faster than it, and not every machine is."""
        self.clock.skip(seconds)
        then_ns = self.now()
        await until(lambda: self.gateway.hub.coarse_ns >= then_ns, what="the deadlines to be looked at")

    def add_route(
        self, slug: str, *, queue_limit: int = 1_000, queue_bytes_limit: int = 1 << 30, **changes: object
    ) -> Route:
        lane = Lane(slug, queue_limit=queue_limit, queue_bytes_limit=queue_bytes_limit)
        route = Route(slug, "local", Visibility.PRIVATE, lane, Meter(), "/predict", 600, 600, cancels=False)
        for name, value in changes.items():
            setattr(route, name, value)
        self.table.routes[slug] = route
        return route

    async def workers(self, *names: str, concurrency: int = 1, lane: Lane | None = None) -> list[Upstream]:
        """Start upstreams and make them the ring of the lane."""
        new = [await Upstream(name).start() for name in names]
        self.upstreams += new
        (lane or self.lane).set_ring([self.slot(upstream, concurrency) for upstream in new])
        return new

    def slot(self, upstream: Upstream, concurrency: int = 1) -> Slot:
        return Slot(f"id-{upstream.name}", upstream.name, "127.0.0.1", upstream.port, concurrency, self.now())

    async def caller(self) -> Caller:
        caller = Caller(*await asyncio.open_connection("127.0.0.1", self.gateway.port))
        self.callers.append(caller)
        return caller

    async def client(self) -> ClientConnection:
        """The gateway's end of the only client connection, once it has been accepted."""
        await until(lambda: len(self.gateway.clients) == 1, what="the gateway to have one client")
        (client,) = self.gateway.clients
        return client

    async def call(self, method: str, target: str, *lines: str, body: bytes = b"", key: str | None = KEY) -> Reply:
        """One request on a connection of its own."""
        caller = await self.caller()
        caller.request(method, target, *lines, body=body, key=key)
        reply = await asyncio.wait_for(caller.reply(head_only=method == "HEAD"), 20)
        caller.close()
        return reply

    def idle(self) -> bool:
        return all(not route.lane.running and not route.lane.queued for route in self.table.routes.values())

    async def finish(self) -> None:
        """Every claim was given back, every queue is empty, every connection goes away with its client."""
        for caller in self.callers:
            caller.close()
        for upstream in self.upstreams:
            upstream.gate.set()
        try:
            await until(lambda: self.gateway.connections == 0, what="client connections to close")
            await until(self.idle, what="claims to be released")
            for route in self.table.routes.values():
                assert route.lane.queued_bytes == 0
        finally:
            await self.gateway.close()
        for upstream in self.upstreams:
            await until(lambda up=upstream: up.open == 0, what=f"connections to {upstream.name} to close")
            await upstream.stop()
