"""A real orchestrator in a process of its own, over a private home, for end-to-end tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx

from app.client import SocketClient
from orchestrator.contract.command import Accepted, Command, CreateEndpoint, CreateKey, Outcome, Shutdown, TopUp
from orchestrator.contract.endpoint import EndpointSpec
from orchestrator.contract.frames import SnapshotAnswer
from orchestrator.contract.places import Places, places
from orchestrator.contract.query import AskSnapshot, AskVerify, Verification
from orchestrator.contract.snapshot import EndpointView, Snapshot, WorkerState
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


def new_id() -> str:
    return uuid.uuid4().hex


@dataclass
class Host:
    """One home directory and the orchestrator that runs over it now."""

    home: Path
    engine: str
    gpus: str = "L40:4"
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    client: SocketClient | None = None
    key: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    """Added to the orchestrator's environment at the next start."""

    @property
    def places(self) -> Places:
        return places(self.environ)

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "GPUDECK_HOME": str(self.home), **self.variables}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        argv = [
            sys.executable, "-m", "orchestrator", "serve", "--engine", self.engine, "--gpus", self.gpus,
            "--port", str(self.port), *arguments,
        ]  # fmt: skip
        return subprocess.Popen(
            argv, cwd=ROOT, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )

    def cpu_s(self) -> float:
        """CPU seconds that the orchestrator has used."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def start(self) -> None:
        """Start it and wait until the control socket answers."""
        self.process = self.spawn()
        await self.attach()

    async def attach(self) -> None:
        """Wait until the control socket of the process that was spawned answers."""
        assert self.process is not None
        await self._forget_client()
        self.client = SocketClient(self.places.socket_file)
        async with asyncio.timeout(90):
            while True:
                assert self.process.poll() is None, self.output()
                try:
                    await self.client.ask(AskSnapshot())
                except ConnectionError:
                    await asyncio.sleep(0.02)
                else:
                    return

    def output(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        log = self.places.log_file
        written = log.read_text() if log.exists() else ""
        return self.process.stdout.read().decode() + written

    async def kill(self) -> None:
        """SIGKILL, as a crash would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.bury()

    async def bury(self) -> None:
        """Wait for the end of the process, and let go of everything that led to it."""
        assert self.process is not None
        await asyncio.to_thread(self.process.wait)
        self._close_pipe()
        await self._forget_client()

    async def terminate(self) -> int:
        """SIGTERM: stops as the settings say, leaving the workers. Returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        code = await asyncio.to_thread(self.process.wait, 90)
        self._close_pipe()
        await self._forget_client()
        return code

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Started, and drained and stopped afterwards, whatever was done with it."""
        await self.start()
        try:
            yield self
        finally:
            if self.process is not None and self.process.poll() is not None:
                await self.start()  # it was ended: take over what it left, then stop that properly
            await self.stop()

    async def stop(self) -> None:
        """Drain and stop; nothing may be left running."""
        if self.process is None or self.process.poll() is not None:
            return
        await self.send(Shutdown(id=new_id(), mode="drain"))
        await asyncio.to_thread(self.process.wait, 90)
        self._close_pipe()
        await self._forget_client()

    def _close_pipe(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()

    async def _forget_client(self) -> None:
        if self.client is not None:
            await self.client.aclose()
            self.client = None

    async def send(self, command: Command) -> Outcome:
        assert self.client is not None
        return await self.client.send(command)

    async def accept(self, command: Command) -> Accepted:
        outcome = await self.send(command)
        assert isinstance(outcome, Accepted), outcome
        return outcome

    async def snapshot(self) -> Snapshot:
        assert self.client is not None
        answer = await self.client.ask(AskSnapshot())
        assert isinstance(answer, SnapshotAnswer)
        return answer.snapshot

    async def verify(self) -> Verification:
        assert self.client is not None
        answer = await self.client.ask(AskVerify())
        assert isinstance(answer, Verification)
        return answer

    async def endpoint(self, slug: str = "echo") -> EndpointView:
        return next(e for e in (await self.snapshot()).endpoints if e.spec.slug == slug)

    async def create(self, setup: str, slug: str = "echo", *, credit_u: int = 1_000_000_000, **fields: object) -> None:
        baseline, maximum = setup.split("-")
        spec = EndpointSpec.model_validate(
            {"slug": slug, "model": "echo", "gpu_type": "L40", "baseline": int(baseline), "maximum": int(maximum),
             "concurrency": 1, **fields}
        )  # fmt: skip
        await self.accept(TopUp(id=new_id(), account="local", amount_u=credit_u))
        await self.accept(CreateEndpoint(id=new_id(), spec=spec))
        if not self.key:
            self.key = (await self.accept(CreateKey(id=new_id(), name="test"))).secret or ""

    async def until_ready(self, count: int, slug: str = "echo", timeout_s: float = 90) -> EndpointView:
        async with asyncio.timeout(timeout_s):
            while True:
                view = await self.endpoint(slug)
                if sum(1 for w in view.workers if w.state is WorkerState.READY) == count == len(view.workers):
                    return view
                await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def http(self) -> AsyncIterator[httpx.AsyncClient]:
        limits = httpx.Limits(max_connections=200)
        headers = {"x-api-key": self.key}
        async with httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=60, trust_env=False, limits=limits
        ) as client:
            yield client
