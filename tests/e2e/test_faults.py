"""Faults on purpose heal by themselves, on real processes, and lose nothing that may be repeated."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.present.snippets import snippet
from orchestrator.contract.faults import FaultKind, InjectFault
from orchestrator.contract.places import HOME_VARIABLE
from orchestrator.contract.routing import AskRouting, Routing
from tests.app.cli_runner import data, gpudeck
from tests.e2e.host import ROOT, Host, new_id
from tests.e2e.test_zero_loss import Load

PROBES = "health probes in a row failed"


@pytest.fixture
async def host(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    """With faults on, and an echo model that is given one second to stop."""
    running = Host(tmp_path_factory.mktemp("h"), "process", variables={"GPUDECK_FAULTS": "true"})
    monkeypatch.setenv(HOME_VARIABLE, str(running.home))
    models: Path = running.places.models_dir
    models.mkdir(parents=True)
    shipped = (ROOT / "assets" / "models" / "echo.toml").read_text()
    (models / "echo.toml").write_text(shipped.replace("stop_grace_s = 12", "stop_grace_s = 1"))
    async with running.running():
        yield running


async def healed(kind: str, *more: str) -> dict[str, Any]:
    """Do the fault as a user does, and watch it to its end."""
    told: dict[str, Any] = await data("fault", "echo", kind, *more, "--wait", "60")
    instants = [step["at_ns"] for step in told["steps"]]
    assert None not in instants, told
    assert instants == sorted(instants), told
    return told


def noticed(told: dict[str, Any], by: str) -> bool:
    """Whether the worker's end was noticed `by` that, or by its probes: on a loaded machine they may come first."""
    note = told["steps"][1]["note"]
    return by in note or PROBES in note


async def test_workers_that_die_are_replaced_and_cost_no_request_that_may_be_repeated(host: Host) -> None:
    await host.create("2-2", concurrency=4)
    await host.until_ready(2)
    load = Load(host, 3, "GET")
    await load.until(5)
    killed = await healed("kill")
    assert killed["worker"] == "echo-1"
    assert noticed(killed, "killed by signal 9")
    filled = await healed("fill-memory", "--worker", "w2")
    assert noticed(filled, "limit is 1 MiB")
    assert host.client is not None
    seen = await host.client.ask(AskRouting(slug="echo", latencies=True))
    assert isinstance(seen, Routing)
    assert {place.place for place in seen.places} == {"ring"}
    assert sum(bucket.count for bucket in seen.latencies) > 5
    before = [worker.id for worker in (await host.endpoint()).workers]
    await host.accept(InjectFault(id=new_id(), slug="echo", fault=FaultKind.DROP_NVML))
    async with asyncio.timeout(60):
        while {gpu.state for gpu in (await host.snapshot()).gpus} != {"stale"}:
            await asyncio.sleep(0.05)
    await load.until(20)
    assert [worker.id for worker in (await host.endpoint()).workers] == before, "no worker is touched by the driver"
    assert set(await load.stop()) == {"ok"}
    assert [told["failed"] for told in (killed, filled)] == [0, 0]
    assert (await host.verify()).ok


async def test_the_python_call_that_is_shown_works(host: Host) -> None:
    await host.create("1-1")
    view = await host.until_ready(1)
    code = snippet("Python", view, "echo")
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env={**host.environ, "GPUDECK_KEY": host.key}, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await program.communicate()
    assert program.returncode == 0
    assert json.loads(output)["echo"] == "hello"


async def test_workers_that_hang_or_fail_their_probes_are_replaced(host: Host) -> None:
    await host.create("2-2", concurrency=4)
    await host.until_ready(2)
    sick = await gpudeck("fault", "echo", "fail-health", "--worker", "w2", "--wait", "0")
    assert sick.exit_code == 0, sick.stderr
    hang = await healed("hang", "--worker", "w1")
    assert noticed(hang, PROBES)
    async with asyncio.timeout(90):  # each by its own probes: one may be gone while the other is ready still
        while {"echo-1", "echo-2"} & {worker.id for worker in (await host.endpoint()).workers}:
            await asyncio.sleep(0.05)
    await host.until_ready(2)
    assert (await host.verify()).ok
