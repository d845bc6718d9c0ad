"""Nothing that was taken in is lost: while workers come and go, while one crashes, while the orchestrator restarts.

The callers are raw sockets that take nothing for granted: a reply counts only if it is whole and is the answer to that
very request. A refused connection is no loss (nothing was taken in): the caller tries again, as any client does.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.contract.command import UpdateEndpoint
from orchestrator.contract.endpoint import EndpointChanges
from tests.e2e.host import Host, new_id


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with Host(tmp_path, "process").running() as running:
        yield running


async def call(host: Host, number: int, *, method: str = "POST", latency_s: float = 0.02) -> str:
    """One request on a connection of its own: "ok", "refused" (never taken in), "cut" (visibly broken off), or what was
    wrong with the answer."""
    body = json.dumps({"echo": number, "latency_s": latency_s}).encode()
    target = "/v1/echo" if method == "POST" else f"/v1/echo/mirror?number={number}"
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
    except ConnectionError:  # reset too, when the listener closes while the connection is in its backlog
        return "refused"
    try:
        head = f"{method} {target} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {host.key}\r\nconnection: close\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(60):
            reply, _, content = (await reader.read()).partition(b"\r\n\r\n")
    except ConnectionError:
        return "cut"
    finally:
        writer.close()
    if not reply:
        return "cut"
    status = reply.split(b" ")[1].decode()
    fields = dict(line.lower().split(b": ", 1) for line in reply.split(b"\r\n")[1:])
    if int(fields[b"content-length"]) != len(content):
        return f"cut after {len(content)} bytes"
    if status != "200":
        return f"{status} {json.loads(content).get('code')}"
    answered = str(number) in content.decode() if method == "GET" else json.loads(content)["echo"] == number
    return "ok" if answered else f"the answer to something else: {content!r}"


class Load:
    """Callers that go on until they are told to stop. `outcomes` counts what became of their requests."""

    def __init__(self, host: Host, callers: int, method: str = "POST") -> None:
        self.outcomes: Counter[str] = Counter()
        self._over = False
        self._tasks = [asyncio.create_task(self._go_on(host, n * 1_000_000, method)) for n in range(callers)]

    async def _go_on(self, host: Host, number: int, method: str) -> None:
        while not self._over:
            number += 1
            outcome = await call(host, number, method=method)
            self.outcomes[outcome] += 1
            if outcome == "refused":
                await asyncio.sleep(0.02)

    async def until(self, count: int) -> None:
        """`count` more requests have been answered."""
        wanted = self.outcomes["ok"] + count
        async with asyncio.timeout(60):
            while self.outcomes["ok"] < wanted:
                await asyncio.sleep(0.01)

    async def stop(self) -> Counter[str]:
        self._over = True
        await asyncio.gather(*self._tasks)
        return self.outcomes


async def test_scaling_down_and_rolling_under_load_lose_nothing(host: Host) -> None:
    await host.create("1-3", idle_timeout_s=1, policy={"kind": "request_count", "value": 1})
    await host.until_ready(1)
    steady = Load(host, 1)
    burst = Load(host, 4)
    await until_workers(host, 3)
    assert set(await burst.stop()) == {"ok"}
    await until_workers(host, 1)  # the extra ones go, while the steady caller goes on
    before = {w.id for w in (await host.endpoint()).workers}
    await host.accept(UpdateEndpoint(id=new_id(), slug="echo", changes=EndpointChanges(env={"ECHO_SEED": "9"})))
    async with asyncio.timeout(60):
        while before & {w.id for w in (await host.endpoint()).workers}:
            await asyncio.sleep(0.02)
    await steady.until(20)
    assert set(await steady.stop()) == {"ok"}


async def test_a_crashing_worker_costs_only_what_must_not_be_repeated(host: Host) -> None:
    await host.create("2-2", concurrency=4)
    await host.until_ready(2)
    repeatable, once_only = Load(host, 4, "GET"), Load(host, 2)
    await repeatable.until(20)
    async with host.http() as http:
        crashed = await http.post("/v1/echo", json={"fail": "crash"})
    assert (crashed.status_code, crashed.json()["code"]) == (502, "worker_lost")
    await host.until_ready(2)
    await repeatable.until(20)
    assert set(await repeatable.stop()) == {"ok"}, "a GET is sent to another worker"
    assert set(await once_only.stop()) <= {"ok", "502 worker_lost"}, "a POST fails visibly, never half"


async def test_a_graceful_restart_under_load_fails_no_request(host: Host) -> None:
    await host.create("2-2")
    workers = {w.id for w in (await host.until_ready(2)).workers}
    load = Load(host, 6)
    await load.until(30)
    assert await host.terminate() == 0
    await host.start()
    await load.until(30)
    outcomes = await load.stop()
    assert set(outcomes) <= {"ok", "refused"}, outcomes
    assert {w.id for w in (await host.endpoint()).workers} == workers, "the workers never noticed"


async def test_sigkill_fails_only_what_was_in_flight_and_visibly(host: Host) -> None:
    await host.create("2-2")
    await host.until_ready(2)
    callers = 6
    load = Load(host, callers)
    await load.until(30)
    await host.kill()
    await host.start()
    await load.until(30)
    outcomes = await load.stop()
    lost = sum(count for outcome, count in outcomes.items() if outcome.startswith("cut"))
    assert lost <= 2 * callers  # one each, and one that came back while the kernel was still closing the sockets
    assert {outcome for outcome in outcomes if not outcome.startswith("cut")} <= {"ok", "refused"}


async def until_workers(host: Host, count: int) -> None:
    async with asyncio.timeout(60):
        while len((await host.endpoint()).workers) != count:
            await asyncio.sleep(0.02)
