"""Asynchronous calls on real parts: a real orchestrator, real workers, the command line, and SIGKILL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from orchestrator.contract.command import DeleteEndpoint, DisableEndpoint, EnableEndpoint
from orchestrator.contract.deferred import AskRequest, RequestShown, RequestState, RequestView
from orchestrator.contract.places import HOME_VARIABLE
from tests.app.cli_runner import gpudeck
from tests.e2e.host import Host, new_id


@pytest.fixture
async def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.delenv("GPUDECK_API_KEY", raising=False)
    async with Host(tmp_path, "process").running() as running:
        yield running


async def shown(host: Host, request_id: str) -> RequestView:
    assert host.client is not None
    answer = await host.client.ask(AskRequest(request_id=request_id))
    assert isinstance(answer, RequestShown), answer
    return answer.request


async def until(host: Host, request_id: str, condition: Callable[[RequestView], bool]) -> RequestView:
    async with asyncio.timeout(90):
        while not condition(view := await shown(host, request_id)):
            await asyncio.sleep(0.05)
    return view


async def until_over(host: Host, request_id: str) -> RequestView:
    return await until(host, request_id, lambda view: view.state.over)


async def until_processing(host: Host, request_id: str) -> None:
    await until(host, request_id, lambda view: view.state is RequestState.PROCESSING)


async def test_the_command_line_hands_in_lists_shows_fetches_and_cancels(host: Host, tmp_path: Path) -> None:
    await host.create("0-1")
    made = await gpudeck("call", "echo", "--json", '{"echo": "later"}', "--async", "--attempts", "2")
    assert made.exit_code == 0, made.stderr
    request_id = made.stdout.strip()
    assert "QUEUED · position 1" in made.stderr
    view = await until_over(host, request_id)
    assert (view.state, view.attempts, view.attempts_max) == (RequestState.COMPLETED, 1, 2)
    listed = await gpudeck("requests")
    assert request_id in listed.stdout
    assert "completed" in listed.stdout
    assert "1 completed" in listed.stderr
    assert json.loads((await gpudeck("requests", "echo", "-o", "json")).stdout)["counts"] == {"COMPLETED": 1}
    text = (await gpudeck("requests", "show", request_id)).stdout
    assert "COMPLETED" in text
    assert "1 of 2" in text
    result = await gpudeck("requests", "result", request_id)
    assert json.loads(result.stdout)["echo"] == "later"
    out = tmp_path / "out.json"
    assert (await gpudeck("requests", "result", request_id, "--out", str(out))).exit_code == 0
    assert json.loads(out.read_text())["echo"] == "later"
    over = await gpudeck("requests", "cancel", request_id)
    assert (over.exit_code, "COMPLETED already" in over.stderr) == (4, True)
    slow = (await gpudeck("call", "echo", "--json", '{"latency_s": 60}', "--async")).stdout.strip()
    early = await gpudeck("requests", "result", slow)
    assert early.exit_code == 1
    assert "no result yet" in early.stderr
    assert (await gpudeck("requests", "cancel", slow)).exit_code == 0
    assert (await shown(host, slow)).state is RequestState.CANCELLED
    nobody = "0" * 32
    for words, code in ((("show", nobody), 3), (("show", "xyz"), 2), (("ls", "nobody"), 3), (("cancel", nobody), 3)):
        assert (await gpudeck("requests", *words)).exit_code == code
    secret = await gpudeck("requests", "secret")
    assert secret.stdout.startswith("whsec_")
    assert "only time" in secret.stderr
    assert (await gpudeck("--account", "nobody", "requests", "secret")).exit_code == 3
    with_webhook = await gpudeck("call", "echo", "--json", "{}", "--async", "--webhook", "http://10.0.0.1/")
    assert (with_webhook.exit_code, "private address" in with_webhook.stderr) == (1, True)


async def test_sigkill_under_load_runs_everything_that_was_acknowledged(host: Host) -> None:
    await host.create("2-2")
    await host.until_ready(2)
    acknowledged: list[str] = []

    async def submit() -> None:
        async with host.http() as http:
            while True:
                try:
                    reply = await http.post("/v2/echo", json={"latency_s": 0.02})
                except httpx.HTTPError:
                    return  # killed: what was not answered was not promised
                if reply.status_code == 202:
                    acknowledged.append(reply.json()["request_id"])

    for kill in (20, 60):
        load = [asyncio.create_task(submit()) for _ in range(4)]
        async with asyncio.timeout(90):
            while len(acknowledged) < kill:
                await asyncio.sleep(0.005)
        await host.kill()
        await asyncio.gather(*load)
        await host.start()
    views = [await until_over(host, request_id) for request_id in acknowledged]
    assert {view.state for view in views} == {RequestState.COMPLETED}
    assert max(view.attempts for view in views) <= 3


async def test_a_disabled_endpoint_is_waited_for_and_a_deleted_one_is_not(host: Host) -> None:
    await host.create("1-1")
    await host.until_ready(1)
    async with host.http() as http:
        first = (await http.post("/v2/echo", json={"latency_s": 4})).json()["request_id"]
        second = (await http.post("/v2/echo", json={})).json()["request_id"]
        await until_processing(host, first)
        await host.accept(DisableEndpoint(id=new_id(), slug="echo"))
        assert (await until_over(host, first)).state is RequestState.COMPLETED, "a drain lets it finish"
        waiting = await until(host, second, lambda view: view.reason == "endpoint echo is disabled")
        assert waiting.state is RequestState.QUEUED
        await host.accept(EnableEndpoint(id=new_id(), slug="echo"))
        assert (await until_over(host, second)).state is RequestState.COMPLETED
        third = (await http.post("/v2/echo", json={"latency_s": 4})).json()["request_id"]
        fourth = (await http.post("/v2/echo", json={})).json()["request_id"]
        await until_processing(host, third)
        await host.accept(DeleteEndpoint(id=new_id(), slug="echo"))
        assert (await until_over(host, third)).state is RequestState.COMPLETED
        assert (await until_over(host, fourth)).code == "endpoint_deleted"
