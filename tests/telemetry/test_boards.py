"""The Grafana board and the alert rules: they ask for what is exposed, and a real Prometheus takes them.

The tests with programs of Prometheus are skipped by name where Debian's package `prometheus` is not installed.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.assets import asset_root
from orchestrator.contract.base import SECOND_NS
from orchestrator.core.decisions import Decided
from orchestrator.core.scaling import Reason
from orchestrator.telemetry.exposition import render
from orchestrator.telemetry.metrics import Backlog, Doors, Metrics
from orchestrator.telemetry.server import MetricsServer
from tests.app.fake_orchestrator import snapshot
from tests.gateway.rig import Rig
from tests.ports import free_port
from tests.telemetry.test_metrics import parsed

ASSETS = asset_root()
RULES = ASSETS / "prometheus" / "alerts.yml"
BOARD = ASSETS / "grafana" / "gpudeck.json"
NAME = re.compile(r"\b(?:gpudeck|process)_[a-z_]+")


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian's package prometheus)")
    return found


def panels() -> Iterator[dict[str, Any]]:
    for panel in json.loads(BOARD.read_text())["panels"]:
        if panel["type"] != "row":
            yield panel


def queries() -> list[str]:
    """Every expression of the board, with its variables filled in."""
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [expr.replace("$endpoint", ".*").replace("$__rate_interval", "1m") for expr in found]


async def exposed(rig: Rig) -> Metrics:
    """Metrics of which every family has a series."""
    await rig.workers("a")
    await rig.call("GET", "/v1/sketch/x")
    await rig.call("GET", "/nowhere")
    state = snapshot()
    measured = {"utilisation_percent": 40, "memory_used_bytes": 1 << 30, "power_mw": 70_000, "temperature_c": 61}
    gpus = tuple(gpu.model_copy(update={**measured, "index": n}) for n, gpu in enumerate(state.gpus))
    state = state.model_copy(update={"gpus": gpus})
    metrics = Metrics(
        lambda: state,
        rig.table,
        lambda: Backlog({"sketch": 1}, {"sketch": 1}, 1),
        lambda: Doors(1, 1, rig.gateway.hub.refused),
    )
    metrics.decided(Decided("sketch", 1, 0, 1, 1, 0, Reason("queue_delay", "because", {})))
    metrics.watch([("w1", "sketch", 0, SECOND_NS)])
    return metrics


async def test_they_ask_only_for_what_is_exposed(rig: Rig) -> None:
    families = parsed(render((await exposed(rig)).collect()))
    names = {sample.name for family in families.values() for sample in family.samples}
    asked = {name for text in (*queries(), RULES.read_text()) for name in NAME.findall(text)}
    assert len(asked) > 20
    assert asked - names == set()


def test_the_board_is_laid_out_without_overlaps() -> None:
    taken: set[tuple[int, int]] = set()
    board = json.loads(BOARD.read_text())
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(x + place["x"], y + place["y"]) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


async def test_promtool_finds_nothing_to_say(rig: Rig) -> None:
    promtool = program("promtool")
    page = render((await exposed(rig)).collect())
    for arguments, stdin in (
        (("check", "metrics"), page),
        (("check", "rules", str(RULES)), b""),
        (("check", "config", str(ASSETS / "prometheus" / "prometheus.yml")), b""),
    ):
        done = await asyncio.to_thread(
            subprocess.run, [promtool, *arguments], input=stdin, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b""), done.stdout.decode() + done.stderr.decode()


async def test_a_real_prometheus_scrapes_and_evaluates_everything(rig: Rig, tmp_path: Path) -> None:
    prometheus = program("prometheus")
    metrics = await exposed(rig)
    server = MetricsServer(lambda: render(metrics.collect()), rig.now)
    assert await server.start(0)
    config = (ASSETS / "prometheus" / "prometheus.yml").read_text()
    config = config.replace("15s", "1s").replace("127.0.0.1:9464", f"127.0.0.1:{server.port}")
    (tmp_path / "prometheus.yml").write_text(config)
    shutil.copy(RULES, tmp_path / "alerts.yml")
    port = free_port()
    child = subprocess.Popen(
        [prometheus, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as http:
            async with asyncio.timeout(120):
                while not await ask(http, 'up{job="gpudeck"} == 1'):
                    assert child.poll() is None
                    await asyncio.sleep(0.1)
                while not await ask(http, "gpudeck_build_info"):
                    await asyncio.sleep(0.1)
                while "unknown" in {rule["health"] for rule in await rules_of(http)}:
                    await asyncio.sleep(0.1)
            rules = await rules_of(http)
            assert {rule["health"] for rule in rules} == {"ok"}, rules
            assert len(rules) == RULES.read_text().count("- alert:")
            for query in queries():
                await ask(http, query)
            assert (await ask(http, "gpudeck_credit_microdollars"))[0]["value"][1] == "99933250"
    finally:
        child.terminate()
        await asyncio.to_thread(child.wait)
        await server.close()


async def ask(http: httpx.AsyncClient, query: str) -> list[dict[str, Any]]:
    """The result of an instant query; empty while Prometheus is not up."""
    try:
        reply = (await http.get("/api/v1/query", params={"query": query})).json()
    except (httpx.TransportError, ValueError):
        return []
    assert reply["status"] == "success", f"{query}: {reply}"
    result: list[dict[str, Any]] = reply["data"]["result"]
    return result


async def rules_of(http: httpx.AsyncClient) -> list[dict[str, Any]]:
    groups = (await http.get("/api/v1/rules")).json()["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]
