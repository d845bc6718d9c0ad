"""why, whatif and plan: one real orchestrator with traffic, asked while it runs and from its files when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.present.amounts import instant
from orchestrator.contract.places import HOME_VARIABLE
from orchestrator.simulator import study
from tests.app.cli_runner import data, data_sync, gpudeck, gpudeck_sync
from tests.e2e.host import Host


@pytest.fixture
async def host(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    home = tmp_path_factory.mktemp("h")
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    async with Host(home, "process", "L40:2").running() as running:
        yield running


def refused(*arguments: str) -> int | str | None:
    """The exit code of the program behind `whatif` and `plan`, run in this process."""
    try:
        return study.main(arguments)
    except SystemExit as left:  # as argparse leaves
        return left.code


def demand_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    """What no endpoint can be set to, and what makes no plan, is named with its limit."""
    for wrong, said in (
        (["--policy", "magic"], "there is no policy 'magic'; use queue_delay, request_count, concurrency, auto"),
        (["--baseline", "-1"], "baseline: -1 is not from 0 to 1000"),
        (["--baseline", "x"], "--baseline: 'x' is no list of whole numbers such as 0,1,2"),
        (["--baseline", "7"], "baseline: 7 is above the maximum, 1: give --maximum too"),
        (["--idle", "0"], "idle: 0 is not from 1 to 300"),
        (["--maximum", ",".join(map(str, range(1, 300)))], "settings come to that, at most 1,000 are tried"),
    ):
        assert refused("whatif", "echo", *wrong) == 2
        assert said in capsys.readouterr().err
    for name, value in (("slots", "0"), ("latency", "0"), ("rpm", "0")):
        assert refused("plan", "--slug", "echo", f"--{name}={value}") == 2
        assert capsys.readouterr().err.startswith(f"gpudeck: {name}: 0 is not ")


async def test_a_decision_can_be_explained_and_traffic_replayed(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
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
    newest = (await gpudeck("why", "echo", "-n", "1")).stdout.splitlines()[1]
    copied = newest[: len("2026-01-01 00:00:00.000")]
    [line] = (await data("why", "echo", "--at", copied, "-n", "1"))["lines"]
    assert instant(line["at_ns"]) == copied, "a time that is copied from the table means its line"
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
    assert {row["name"] for row in tried["settings"]} >= {"0-1 queue_delay:1 idle 1 s", "1-1 queue_delay:1 idle 10 s"}
    shown = await gpudeck("whatif", "echo", "--baseline", "0,1", "--policy", "auto", "--all")
    assert shown.exit_code == 0, shown.stderr
    assert "SETTING" in shown.stdout
    assert "(now)" in shown.stdout
    assert (await gpudeck("whatif", "nobody")).exit_code == 3
    assert (await gpudeck("sim", "--slug", "nobody")).exit_code == 3
    for command in (["why", "echo"], ["sim", "--slug", "echo"]):
        foreign = await gpudeck("--account", "lab", *command)
        assert (foreign.exit_code, "account 'lab' has no endpoint 'echo'" in foreign.stderr) == (3, True), command
    demand_refusals(capsys)

    sized = await data("plan", "--slug", "echo", "--peak", "600")
    assert sized["demand"]["measured"] == 30
    assert sized["demand"]["latency_s"] > 0
    given = await data("plan", "--slug", "echo", "--rpm", "20", "--peak", "100", "--latency", "6", "--cv", "1")
    assert (given["demand"]["measured"], given["by_mean"]["setup"]) == (0, "2-10")

    [played] = (await data("sim", "--slug", "echo"))["runs"]
    assert played["spec"]["policy"]["kind"] == "auto", "as the endpoint is set"
    assert (played["requests"], played["outcomes"], played["most_workers"]) == (30, {"served": 30}, 1)
    several = await gpudeck("sim", "--slug", "echo", "--setup", "0-2", "--policy", "auto", "--policy", "queue_delay:1")
    assert (several.exit_code, "recorded of echo: 30 requests" in several.stdout) == (0, True), several.stderr
    assert [line.split()[0] for line in several.stdout.splitlines()[4:7]] == ["POLICY", "auto", "queue_delay:1"]


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
    document = data_sync("plan", "--rpm", "20", "--peak", "100", "--latency", "6")
    assert document["by_mean"]["setup"] == "2-10"
    assert list(tmp_path.iterdir()) == [], "nothing is written"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--rpm", "20"], 2, "latency: give --latency, or --slug of an endpoint that has had traffic"),
        (["--latency", "6"], 2, "rpm: give --rpm"),
        (["--rpm", "-1", "--latency", "6"], 2, "rpm: -1 is not above 0"),
        (["--rpm", "nan", "--latency", "6"], 2, "rpm: nan is not above 0"),
        (["--rpm", "1", "--latency", "6", "--wait", "nan"], 2, "'nan' is no number"),
        (["--rpm", "1", "--latency", "6", "--slots", "0"], 2, "slots: 0 is not from 1 to 1024"),
        (["--rpm", "1", "--latency", "6", "--gpu", ""], 3, "gpu: 2025-seed has no price for ''"),
        (["--rpm", "1", "--latency", "6", "--book", "no"], 3, "there is no price book 'no' (there are: 2025-seed)"),
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
