"""DockerEngine when Docker is absent, remote, hung, loses an answer, or dies and comes back (reliability.md 3.2)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from orchestrator.clock import system_now
from orchestrator.contract.snapshot import EngineKind
from orchestrator.engine.docker_engine import DockerEngine
from orchestrator.engine.ports import EngineError, EngineUnavailable, Fault
from tests.engine.conftest import PrivateEngine
from tests.engine.docker_harness import ADDRESS, DockerHarness
from tests.waiting import until


class LosingProxy:
    """Stands between an engine and Docker, and loses the answer to the first request for `lost`: the connection is cut
    after Docker has done the work (reliability.md D5)."""

    def __init__(self, lost: bytes) -> None:
        self.lost: bytes | None = lost

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(ADDRESS.removeprefix("unix://"))
        losing = asyncio.Event()

        async def upwards() -> None:
            while data := await reader.read(65_536):
                if self.lost is not None and self.lost in data:
                    self.lost = None
                    losing.set()
                up_writer.write(data)

        async def downwards() -> None:
            while data := await up_reader.read(65_536):
                if losing.is_set():
                    return
                writer.write(data)

        tasks = [asyncio.create_task(upwards()), asyncio.create_task(downwards())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        writer.transport.abort()
        up_writer.transport.abort()


@pytest.mark.docker
@pytest.mark.skipif(not ADDRESS.startswith("unix://"), reason="the proxy speaks to a Unix socket only")
@pytest.mark.parametrize("lost", [b"/containers/create", b"/start HTTP"])
async def test_a_start_whose_answer_is_lost_is_unknown_and_may_be_repeated(
    world: DockerHarness, tmp_path: Path, lost: bytes
) -> None:
    proxy = LosingProxy(lost)
    server = await asyncio.start_unix_server(proxy.serve, tmp_path / "proxy.sock")
    engine = DockerEngine(world.instance, system_now(), f"unix://{tmp_path}/proxy.sock", secrets=tmp_path / "secrets")
    try:
        with pytest.raises(EngineUnavailable):
            await engine.start(world.spec(1))
        assert proxy.lost is None
        assert [worker.worker_id for worker in await engine.list_workers()] == ["w-1"], "Docker did the work"
        worker = await engine.start(world.spec(1))
        await world.settle_healthy(worker)
        assert len(await world.leftovers()) == 1, "and a repetition makes no twin"
    finally:
        await engine.close()
        server.close()
        await server.wait_closed()


async def test_without_an_engine_every_call_says_so(tmp_path: Path) -> None:
    engine = DockerEngine("abc", system_now(), f"unix://{tmp_path}/none.sock", secrets=tmp_path / "secrets")
    changes: list[Any] = []
    await engine.open(lambda *change: changes.append(change))
    try:
        view = await engine.probe()
        assert (view.ok, view.kind) == (False, EngineKind.DOCKER)
        assert "start Docker" in view.detail
        with pytest.raises(EngineUnavailable, match="the socket does not exist"):
            await engine.list_workers()
        with pytest.raises(EngineUnavailable):
            await engine.stop("w-1", grace_s=1.0)
    finally:
        async with asyncio.timeout(20):
            await engine.close()
    assert changes == []
    with pytest.raises(EngineUnavailable, match="closed"):
        await engine.list_workers()


async def test_a_remote_engine_is_refused_by_every_call(tmp_path: Path) -> None:
    engine = DockerEngine("abc", system_now(), "tcp://192.0.2.1:2375", secrets=tmp_path / "secrets")
    view = await engine.probe()
    assert not view.ok
    assert "tcp://192.0.2.1:2375" in view.detail
    with pytest.raises(EngineError, match="not a local socket") as refusal:
        await engine.open(lambda *_: None)
    assert refusal.value.fault is Fault.REFUSED
    with pytest.raises(EngineError, match="not a local socket"):
        await engine.list_workers()
    await engine.close()


async def test_an_engine_that_never_answers_does_not_hold_up_the_close(tmp_path: Path) -> None:
    """A listener that accepts and says nothing: what a hung dockerd looks like."""
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_unix_server(lambda _, writer: connections.append(writer), tmp_path / "hung.sock")
    engine = DockerEngine("abc", system_now(), f"unix://{tmp_path}/hung.sock", secrets=tmp_path / "secrets")
    await engine.open(lambda *_: None)
    await until(lambda: connections, what="the event reader's connection")
    async with asyncio.timeout(20):  # a fraction of the time for which a call waits
        await engine.close()
    for writer in connections:
        writer.transport.abort()
    server.close()
    await server.wait_closed()


@pytest.mark.docker
async def test_the_engine_may_die_and_come_back(private_engine: PrivateEngine, tmp_path: Path) -> None:
    """reliability.md D1, D4: SIGKILL of dockerd ends the stream silently; calls fail as unavailable; after the return
    the reader is connected again and asks for a new list."""
    changes: list[Any] = []
    engine = DockerEngine("abc", system_now(), private_engine.address, secrets=tmp_path / "secrets")
    await engine.open(lambda *change: changes.append(change))
    try:
        await until(lambda: ("", None) in changes, what="the first connection")
        assert await engine.list_workers() == []
        changes.clear()
        private_engine.kill()
        with pytest.raises(EngineUnavailable):
            await engine.list_workers()
        assert not (await engine.probe()).ok
        assert changes == []
        await asyncio.to_thread(private_engine.start)
        await until(lambda: ("", None) in changes, what="the second connection")
        assert await engine.list_workers() == []
        assert (await engine.probe()).ok
    finally:
        await engine.close()
