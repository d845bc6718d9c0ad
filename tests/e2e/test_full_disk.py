"""A ledger that cannot be written: serving goes on, nothing new starts, stopping works, and nothing is lost."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestrator.contract.command import Refused, TopUp
from tests.e2e.host import Host, new_id


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose data directory is a file system of 2 MiB."""
    if os.getuid() != 0:
        pytest.skip("mounting a small file system needs root")
    home = tmp_path_factory.mktemp("d")
    data = home / "data"
    data.mkdir(mode=0o700)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(data)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this system does not let us mount a tmpfs")
    yield home
    subprocess.run(["umount", "-l", str(data)], check=True)


def fill(ballast: Path) -> None:
    """Write until nothing more fits."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4_096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def ballast(host: Host) -> Path:
    """What takes up the room on the host's disk."""
    return host.places.data / "ballast"


@pytest.fixture
async def host(small_disk: Path) -> AsyncIterator[Host]:
    """Serves with one worker, and has noticed that its disk is full."""
    async with Host(small_disk, "process").running() as running:
        await running.create("1-1")
        await running.until_ready(1)
        fill(ballast(running))
        async with asyncio.timeout(90):
            while (await running.snapshot()).ledger_ok:
                await running.send(TopUp(id=new_id(), account="local", amount_u=1, memo="x" * 200))
        yield running


async def test_a_full_disk_stops_nothing_that_serves_and_loses_nothing(host: Host) -> None:
    refused = await host.send(TopUp(id=new_id(), account="local", amount_u=1))
    assert isinstance(refused, Refused)
    assert refused.code == "ledger"
    async with host.http() as http:
        assert (await http.post("/v1/echo", json={})).status_code == 200
    ballast(host).unlink()
    async with asyncio.timeout(90):
        while not (await host.snapshot()).ledger_ok:
            await asyncio.sleep(0.1)
    assert (await host.verify()).ok


async def test_a_full_disk_does_not_keep_it_from_stopping(host: Host) -> None:
    assert await host.terminate() == 0
    ballast(host).unlink()
    await host.start()
    assert (await host.verify()).ok
