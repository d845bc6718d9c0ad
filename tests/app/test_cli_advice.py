"""why, whatif and plan: one real orchestrator with traffic, asked while it runs and from its files when it does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.contract.places import HOME_VARIABLE
from tests.app.cli_runner import gpudeck, gpudeck_sync
from tests.e2e.host import Host


@pytest.fixture
async def host(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    running = Host(tmp_path_factory.mktemp("h"), "process", "L40:2")
    monkeypatch.setenv(HOME_VARIABLE, str(running.home))
    await running.start()
    yield running
    if running.process is not None and running.process.poll() is not None:
        await running.start()
    await running.stop()


async def data(*arguments: str) -> dict[str, Any]:
    result = await gpudeck(*arguments, "-o", "json")
    assert result.exit_code == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


async def test_a_decision_can_be_explained_and_traffic_replayed(host: Host) -> None:
    await host.create("0-1", idle_timeout_s=1, policy={"kind": "auto"})
    async with host.http() as http:
        replies = await asyncio.gather(*(http.post("/v1/echo", json={}) for _ in range(30)))
    assert {reply.status_code for reply in replies} == {200}

    found = await data("why", "echo", "--replay", "-n", "1000")
    assert found["slug"] == "echo"
    first = next(line for line in found["lines"] if line["desired"] == 1)
    assert first["before"] == 0
    assert first["inputs"]["policy"]["kind"] == "auto"
    assert first["inputs"]["seen"]["queued"] >= 1
    assert [line["same"] for line in found["lines"]] == [True] * len(found["lines"])
    table = await gpudeck("why", "echo", "--replay")
    assert "0 → 1" in table.stdout
    assert "same" in table.stdout
    assert (await gpudeck("why", "nobody")).exit_code == 3
    assert (await gpudeck("why", "echo", "--at", "yesterday")).exit_code == 2
    before = await gpudeck("why", "echo", "--at", "2001-01-01")
    assert (before.exit_code, before.stdout) == (0, "")
    assert "no decision about echo is recorded up to then" in before.stderr

    assert await host.terminate() == 0
    offline = await data("why", "echo", "--replay", "-n", "1000")
    assert offline["lines"][: len(found["lines"])] == found["lines"]
    assert (await gpudeck("why", "echo", "--at", "1h")).exit_code == 2, "without an orchestrator nobody knows now"

    tried = await data("whatif", "echo", "--baseline", "0,1", "--policy", "queue_delay=1", "--requests", "25")
    assert tried["requests"] == 25
    assert tried["books"] == ["2025-seed"]
    assert tried["cold_start"]["measured"] >= 1
    assert [row["now"] for row in tried["settings"]].count(True) == 1
    assert {row["name"] for row in tried["settings"]} >= {"0-1 queue_delay=1 idle 1 s", "1-1 queue_delay=1 idle 10 s"}
    shown = await gpudeck("whatif", "echo", "--baseline", "0,1", "--policy", "auto", "--all")
    assert shown.exit_code == 0, shown.stderr
    assert "SETTING" in shown.stdout
    assert "(now)" in shown.stdout
    assert (await gpudeck("whatif", "nobody")).exit_code == 3
    wrong = await gpudeck("whatif", "echo", "--policy", "magic")
    assert (wrong.exit_code, "'magic' is none of queue_delay" in wrong.stderr) == (2, True)

    sized = await data("plan", "--slug", "echo", "--peak", "600")
    assert sized["demand"]["measured"] == 30
    assert sized["demand"]["latency_s"] > 0


async def first_after(at_ns: int) -> dict[str, Any]:
    """The first decision of the life that began after `at_ns`; it comes with a tick, after the socket answers."""
    async with asyncio.timeout(90):
        while True:
            for line in (await data("why", "echo", "--replay", "-n", "100"))["lines"]:
                if line["at_ns"] > at_ns and line["before"] is None:
                    found: dict[str, Any] = line
                    return found


async def test_what_a_policy_learned_survives_a_restart(host: Host) -> None:
    await host.create("0-1", idle_timeout_s=1, policy={"kind": "auto"})
    async with host.http() as http:
        assert (await http.post("/v1/echo", json={})).status_code == 200
    last = (await data("why", "echo", "--replay", "-n", "1"))["lines"][-1]

    await host.until_ready(0)
    assert await host.terminate() == 0
    await host.start()
    first = await first_after(last["at_ns"])
    kinds = {first["inputs"]["memory"]["kind"], last["inputs"]["memory"]["kind"]}
    assert kinds == {"learned"}, "else it would have begun anew"


def test_a_plan_needs_nothing_but_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    result = gpudeck_sync("plan", "--rpm", "20", "--peak", "100", "--latency", "6")
    assert result.exit_code == 0, result.stderr
    assert "2-10 on L40: $5.34/h always, $127.45/h at most" in result.stdout
    document = json.loads(gpudeck_sync("plan", "--rpm", "20", "--peak", "100", "--latency", "6", "-o", "json").stdout)
    assert document["by_mean"]["setup"] == "2-10"
    assert list(tmp_path.iterdir()) == [], "nothing is written"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--rpm", "20"], 2, "latency: give --latency, or --slug of an endpoint that has had traffic"),
        (["--latency", "6"], 2, "rpm: give --rpm"),
        (["--rpm", "-1", "--latency", "6"], 2, "rpm: -1 is not above 0"),
        (["--rpm", "1", "--latency", "6", "--gpu", "Z80"], 3, "gpu: 2025-seed has no price for 'Z80'"),
        (["--slug", "echo"], 3, "there is no endpoint 'echo': gpudeck has not run here yet"),
    ],
)
def test_a_plan_says_what_is_wrong(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    result = gpudeck_sync("plan", *arguments)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr


def test_nothing_to_explain_where_nothing_has_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    for command in ("why", "whatif"):
        result = gpudeck_sync(command, "echo")
        assert (result.exit_code, result.stderr) == (
            3, "gpudeck: there is no endpoint 'echo': gpudeck has not run here yet\n",
        )  # fmt: skip
