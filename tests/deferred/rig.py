"""The gateway's rig with asynchronous calls behind it, on a clock that can be moved."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from orchestrator.contract.deferred import RequestState
from orchestrator.deferred.courier import Courier
from orchestrator.deferred.desk import DeferredDesk
from orchestrator.deferred.rules import Bounds
from orchestrator.deferred.store import DeferredStore
from orchestrator.deferred.webhook import Allowance, read_allowance
from tests.gateway.rig import KEY, Reply, Rig
from tests.waiting import until

LOCAL = read_allowance(["127.0.0.0/8", "localhost"])


class DeferredRig(Rig):
    """`reopen` is what a new orchestrator does over the same file."""

    def __init__(self, directory: Path, bounds: Bounds, allowance: Allowance, tls: ssl.SSLContext | None) -> None:
        super().__init__()
        self.directory = directory
        self.bounds = bounds
        self.allowance = allowance
        self.tls = tls

    async def open(self) -> None:
        self.store = DeferredStore(self.directory / "deferred.db", self.now)
        courier = Courier(self.store, self.now, self.directory / "webhook.key", self.allowance, self.tls)
        self.desk = DeferredDesk(self.store, self.gateway.hub, courier, self.bounds, self.allowance)
        await self.desk.start()

    async def shut(self) -> None:
        """What a process that is killed leaves, as far as this one can: nothing is settled."""
        await self.desk.close()
        self.gateway.hub.deferrals = None
        await asyncio.to_thread(self.store.close)

    async def reopen(self) -> None:
        await self.shut()
        await self.open()

    async def finish(self) -> None:
        for upstream in self.upstreams:
            upstream.gate.set()
        await self.shut()
        await super().finish()

    def sweep(self, skip_s: float = 0.0) -> None:
        """Let time pass and look at every deadline."""
        self.clock.skip(skip_s)
        self.desk.runner.sweep(self.now())

    async def submit(self, target: str = "/v2/sketch", *lines: str, body: bytes = b"", key: str = KEY) -> str:
        """Hand a call in; its id."""
        reply = await self.call("POST", target, *lines, body=body, key=key)
        assert reply.status == 202, reply
        told = reply.json()
        assert reply.get("location") == f"/v2/requests/{told['request_id']}"
        return str(told["request_id"])

    async def told(self, request_id: str) -> dict[str, object]:
        reply = await self.call("GET", f"/v2/requests/{request_id}")
        assert reply.status == 200, reply
        return reply.json()

    async def until_state(self, request_id: str, state: RequestState) -> dict[str, object]:
        """Wait for the state; the call as it is told then."""
        async with asyncio.timeout(60):
            while (told := await self.told(request_id))["state"] != state:
                assert told["state"] in ("QUEUED", "PROCESSING"), told
                await asyncio.sleep(0.01)
        return told

    async def result(self, request_id: str, *, method: str = "GET") -> Reply:
        return await self.call(method, f"/v2/requests/{request_id}/result")

    async def until_seen(self, count: int) -> None:
        """Wait until the workers have seen `count` requests in all."""
        await until(
            lambda: sum(len(up.seen) for up in self.upstreams) >= count, what=f"{count} requests at the workers"
        )


@contextlib.asynccontextmanager
async def deferring(
    directory: Path,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
    allowance: Allowance = LOCAL,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[DeferredRig]:
    """A rig over `directory`. Its end proves that nothing leaked."""
    rig = DeferredRig(directory, bounds, allowance, tls)
    await rig.listen()
    await rig.open()
    try:
        yield rig
    finally:
        await rig.finish()
