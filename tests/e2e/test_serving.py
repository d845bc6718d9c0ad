"""The contract's main lines on real parts: real processes or containers, real sockets, a real ledger."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import httpx

from orchestrator.contract.command import DeleteEndpoint, DisableEndpoint, RevokeKey, UpdateEndpoint
from orchestrator.contract.endpoint import EndpointChanges
from orchestrator.contract.query import AskBill, Bill
from orchestrator.contract.snapshot import EndpointState, Tier, WorkerState
from tests.e2e.host import Host, new_id
from tests.waiting import until


async def test_nine_requests_in_sequence_go_w1_w2_w3_three_times(host: Host) -> None:
    await host.create("3-3")
    view = await host.until_ready(3)
    labels = {w.id: w.label for w in view.workers}
    async with host.http() as http:
        replies = [await http.post("/v1/echo", json={"echo": n}) for n in range(9)]
    assert [r.status_code for r in replies] == [200] * 9
    assert [labels[r.headers["x-worker-id"]] for r in replies] == ["w1", "w2", "w3"] * 3
    assert [r.json()["echo"] for r in replies] == list(range(9))


async def test_a_request_at_zero_workers_is_held_and_answered_then_the_worker_goes(host: Host) -> None:
    await host.create("0-2", idle_timeout_s=1)
    assert (await host.endpoint()).workers == ()
    async with host.http() as http:
        reply = await http.post("/v1/echo", json={"echo": "held"})
    assert reply.status_code == 200
    assert reply.headers["x-cold-start"] == "true"
    assert int(reply.headers["x-queue-ms"]) > 0
    await host.until_ready(0)
    bill = await _bill(host)
    assert [line.tier for line in bill.lines] == [Tier.AUTOSCALE]
    assert bill.lines[0].end_ns is not None
    assert (await host.verify()).ok


async def test_a_burst_on_0_2_never_shows_more_than_two_workers(host: Host) -> None:
    await host.create("0-2", idle_timeout_s=2, policy={"kind": "request_count", "value": 1})
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            workers = (await host.endpoint()).workers
            most = max(most, len(workers))
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    async with host.http() as http:
        replies: list[httpx.Response] = []

        async def call() -> None:
            """At least once, and until both have served: one may be ready long before the other."""
            while True:
                replies.append(await http.post("/v1/echo", json={"latency_s": 0.1}))
                if len({reply.headers.get("x-worker-id") for reply in replies}) == 2:
                    return

        async with asyncio.timeout(90):
            await asyncio.gather(*(call() for _ in range(40)))
    assert {r.status_code for r in replies} == {200}
    await host.until_ready(0)
    watching.cancel()
    assert most == 2


async def test_sigkill_under_load_and_the_same_workers_serve_again(host: Host) -> None:
    await host.create("2-2")
    before = {w.id: w.engine_ref for w in (await host.until_ready(2)).workers}
    starts = {line.interval_id: line.start_ns for line in (await _bill(host)).lines}
    async with host.http() as http:
        load = [asyncio.create_task(http.post("/v1/echo", json={"latency_s": 0.05})) for _ in range(20)]
        await asyncio.wait(load, return_when=asyncio.FIRST_COMPLETED)
        await host.kill()
        await asyncio.gather(*load, return_exceptions=True)
    await host.start()
    async with host.http() as http, asyncio.timeout(60):
        while (reply := await http.post("/v1/echo", json={"echo": 1})).status_code != 200:
            await asyncio.sleep(0.02)
    assert host.cpu_s() < 3, "it serves again after so much work; by the clock a loaded machine takes longer"
    view = await host.until_ready(2)
    assert {w.id: w.engine_ref for w in view.workers} == before
    assert reply.headers["x-worker-id"] in before
    bill = await _bill(host)
    assert {line.interval_id: line.start_ns for line in bill.lines} == starts, "one interval each, never interrupted"
    assert all(line.end_ns is None for line in bill.lines)
    verification = await host.verify()
    assert verification.ok, verification.problems


async def test_a_killed_worker_is_replaced_and_billed_to_its_end(host: Host) -> None:
    await host.create("1-1")
    first = (await host.until_ready(1)).workers[0]
    async with host.http() as http:
        reply = await http.post("/v1/echo", json={"fail": "crash"})
        assert reply.status_code == 502
        async with asyncio.timeout(90):
            while True:
                view = await host.endpoint()
                if view.workers and view.workers[0].id != first.id and view.workers[0].state is WorkerState.READY:
                    break
                await asyncio.sleep(0.05)
        assert (await http.post("/v1/echo", json={"echo": 2})).status_code == 200
    line = next(li for li in (await _bill(host)).lines if li.worker_id == first.id)
    assert line.end_source == "exit"
    assert (await host.verify()).ok


async def test_keys_are_checked_and_revoked(host: Host) -> None:
    await host.create("1-1")
    await host.until_ready(1)
    async with httpx.AsyncClient(base_url=host.url, trust_env=False) as http:
        assert (await http.post("/v1/echo", json={})).status_code == 401
        wrong = await http.post("/v1/echo", json={}, headers={"x-api-key": "gd_00000000_nope"})
        assert wrong.status_code == 401
        assert wrong.headers["content-type"] == "application/problem+json"
        bearer = {"authorization": f"Bearer {host.key}"}
        assert (await http.post("/v1/echo", json={}, headers=bearer)).status_code == 200
        assert (await http.get("/v1/get-user-credits", headers=bearer)).status_code == 200
        await host.accept(RevokeKey(id=new_id(), key_id=host.key.split("_")[1]))
        assert (await http.post("/v1/echo", json={}, headers=bearer)).status_code == 401


async def test_an_update_rolls_without_losing_a_request(host: Host) -> None:
    await host.create("1-2")
    first = (await host.until_ready(1)).workers[0].id
    stop = asyncio.Event()
    codes: list[int] = []

    async def call() -> None:
        async with host.http() as http:
            while not stop.is_set():
                codes.append((await http.post("/v1/echo", json={"latency_s": 0.02})).status_code)

    calling = asyncio.create_task(call())
    await host.accept(UpdateEndpoint(id=new_id(), slug="echo", changes=EndpointChanges(env={"ECHO_SEED": "9"})))
    async with asyncio.timeout(60):
        while True:
            workers = (await host.endpoint()).workers
            if first not in {w.id for w in workers} and len(workers) == 1:
                break
            await asyncio.sleep(0.05)
    stop.set()
    await calling
    assert set(codes) == {200}
    assert (await host.verify()).ok


async def test_disable_and_delete_leave_nothing(host: Host) -> None:
    await host.create("1-1")
    await host.until_ready(1)
    await host.accept(DisableEndpoint(id=new_id(), slug="echo"))
    await host.until_ready(0)
    view = await host.endpoint()
    assert view.state is EndpointState.DISABLED
    async with host.http() as http:
        reply = await http.post("/v1/echo", json={})
    assert (reply.status_code, reply.json()["code"]) == (503, "endpoint_disabled")
    await host.accept(DeleteEndpoint(id=new_id(), slug="echo"))
    async with asyncio.timeout(60):
        while (await host.snapshot()).endpoints:
            await asyncio.sleep(0.05)
    # Its files go after the books know of its end, and in a thread.
    await until(lambda: list(host.places.workers_dir.iterdir()) == [], what="the worker's files to go")


async def test_the_control_socket_is_private_and_the_directory_has_one_owner(host: Host) -> None:
    socket = host.places.socket_file
    assert socket.stat().st_mode & 0o777 == 0o600
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    assert host.places.ledger_file.stat().st_mode & 0o777 == 0o600
    assert host.process is not None
    second = host.spawn()
    output = (await asyncio.to_thread(second.communicate))[0].decode()
    assert second.returncode == 75
    assert f"pid {host.process.pid}" in output


async def test_no_secret_is_written_anywhere(host: Host) -> None:
    await host.create("1-1")
    await host.until_ready(1)
    async with host.http() as http:
        await http.post("/v1/echo", json={})
    secret = host.key.split("_", 2)[2].encode()
    snapshot = (await host.snapshot()).model_dump_json().encode()
    assert secret not in snapshot
    searched = 0
    for path in _files(host.home):
        with suppress(FileNotFoundError):  # replaced by a newer one meanwhile
            assert secret not in path.read_bytes(), path
            searched += 1
    assert searched > 5
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert secret not in entry.read_bytes()
        except OSError:
            continue  # it ended meanwhile


def _files(root: Path) -> list[Path]:
    return [p for p in root.rglob("*") if p.is_file()]


async def _bill(host: Host) -> Bill:
    assert host.client is not None
    bill = await host.client.ask(AskBill())
    assert isinstance(bill, Bill)
    return bill
