"""The engine suite's world on a real Docker engine: the echo worker in containers of an instance of its own."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import docker
import docker.errors

from orchestrator.clock import system_now
from orchestrator.core.catalogue import Model
from orchestrator.core.workload import LABEL_PREFIX, Exit, GpuGrant, Observed, WorkerSpec
from orchestrator.engine.docker_client import DEFAULT_ADDRESS, connect
from orchestrator.engine.docker_engine import DockerEngine
from orchestrator.engine.ports import EngineError
from tests.waiting import until

IMAGE = "gpudeck/worker:0.1.0"
ADDRESS = os.environ.get("DOCKER_HOST") or DEFAULT_ADDRESS
MIB = 1024**2

T = TypeVar("T")


def client(address: str = ADDRESS) -> docker.APIClient:
    """A client of the tests' own, apart from the engine under test. Close it."""
    return connect(address, 30.0)


@functools.cache
def missing() -> str | None:
    """Why no real engine can be used here, or None."""
    try:
        with client() as api:
            api.inspect_image(IMAGE)
    except docker.errors.ImageNotFound:
        return f"{ADDRESS} has no image {IMAGE}; build it with `docker build --target worker -t {IMAGE} .`"
    except EngineError as error:
        return f"{error.message} (.ci/engine starts one)"
    return None


def echo_model(**changes: Any) -> Model:
    """The echo model as the catalogue has it, with the image's own entry point."""
    values: dict[str, Any] = {
        "name": "echo",
        "title": "Echo",
        "summary": "Answers as it is told",
        "kind": "echo",
        "image": IMAGE,
        "command": ("echo", "--host", "{host}", "--port", "{port}"),
        "memory_bytes": 512 * MIB,
        "pids": 128,
    }
    return Model.model_validate(values | changes)


def worker_spec(instance: str, n: int, model: Model | None = None, **env: str) -> WorkerSpec:
    return WorkerSpec(
        worker_id=f"w-{n}",
        name=f"gpudeck-{instance}-demo-{n}",
        instance=instance,
        endpoint="demo",
        interval_id=f"i-{n}",
        generation=1,
        model=model or echo_model(),
        gpu=GpuGrant(uuid=f"SIM-{n}", index=n, type="L40", simulated=True),
        env=env,
    )


class DockerHarness:
    """See tests/engine/suite.py, Harness."""

    def __init__(self, secrets_dir: Path) -> None:
        self.secrets = secrets_dir
        self.instance = f"test{secrets.token_hex(4)}"
        self.changes: list[tuple[str, Exit | None]] = []
        self.api = client()
        self.engine = DockerEngine(self.instance, system_now(), ADDRESS, secrets=self.secrets)

    async def open(self) -> None:
        changes = self.changes = []
        await self.engine.open(lambda worker_id, exit_: changes.append((worker_id, exit_)))
        # The watch reports its connection; a test that acts before it would depend on the replay of events.
        await until(lambda: ("", None) in changes, what="the event stream")
        changes.clear()

    def spec(
        self, n: int, *, startup_s: float = 0.0, memory_bytes: int = 512 * MIB, runnable: bool = True
    ) -> WorkerSpec:
        model = echo_model(memory_bytes=memory_bytes, image=IMAGE if runnable else None)
        return worker_spec(self.instance, n, model, ECHO_STARTUP_S=str(startup_s))

    async def settle_healthy(self, worker: Observed) -> None:
        async with asyncio.timeout(60):
            while not await self.engine.healthy(worker, "/health", 2.0):
                await asyncio.sleep(0.02)

    async def crash(self, worker_id: str, how: Literal["exit3", "sigkill", "oom"]) -> None:
        if how == "sigkill":
            # From outside: process 1 of a container cannot kill itself, and Docker's own kill is what a user would use.
            await self.on_thread(lambda: self.api.kill(self.container(worker_id), "SIGKILL"))
            return
        body = {"fail": "exit", "code": 3} if how == "exit3" else {"fail": "oom"}
        await post(self.address(worker_id), "/predict", body)

    async def reopen(self, away: Callable[[], Awaitable[object]] | None = None) -> None:
        await self.engine.close()
        if away is not None:
            await away()
        self.engine = DockerEngine(self.instance, system_now(), ADDRESS, secrets=self.secrets)
        await self.open()

    async def leftovers(self) -> list[str]:
        return [each["Names"][0].lstrip("/") for each in await self.on_thread(self._ours)]

    async def close(self) -> None:
        await self.engine.close()
        for each in await self.on_thread(self._ours):
            remove_by_force(self.api, each["Id"])
        self.api.close()

    def container(self, worker_id: str) -> str:
        """Id of a worker's container, found without the engine under test."""
        return next(str(each["Id"]) for each in self._ours() if each["Labels"][f"{LABEL_PREFIX}worker"] == worker_id)

    def address(self, worker_id: str) -> tuple[str, int]:
        """Where a worker listens, found without the engine under test."""
        [binding] = self.api.port(self.container(worker_id), 8000)
        return binding["HostIp"], int(binding["HostPort"])

    async def on_thread(self, call: Callable[[], T]) -> T:
        """The client blocks; calls are awaited one by one, so it is never used by two threads at once."""
        return await asyncio.to_thread(call)

    def _ours(self) -> list[dict[str, Any]]:
        return list(self.api.containers(all=True, filters={"label": f"{LABEL_PREFIX}instance={self.instance}"}))


async def until_logged(world: DockerHarness, worker_id: str, text: str) -> None:
    async with asyncio.timeout(60):
        while not any(text in line for line in await world.engine.logs(worker_id, tail=50)):
            await asyncio.sleep(0.02)


def remove_by_force(api: docker.APIClient, container: str) -> None:
    try:
        api.remove_container(container, v=True, force=True)
    except docker.errors.NotFound:
        return


async def post(address: tuple[str, int], path: str, body: dict[str, Any]) -> None:
    """Send a request whose worker may die of it; the answer, if any, is read and dropped."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        payload = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: worker\r\nContent-Type: application/json\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload)
        await writer.drain()
        async with asyncio.timeout(30):
            while await reader.read(65_536):
                pass
    except ConnectionError:
        return
    finally:
        writer.transport.abort()


async def open_harness(tmp_path: Path) -> DockerHarness:
    harness = DockerHarness(tmp_path / "secrets")
    await harness.open()
    return harness
