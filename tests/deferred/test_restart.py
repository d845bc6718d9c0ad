"""What a 202 promises: nothing that was accepted is lost, whatever ends the process, and nothing runs too often."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.clock import system_now
from orchestrator.contract.deferred import RequestState
from orchestrator.deferred.call import Stage
from orchestrator.deferred.rules import Bounds
from orchestrator.deferred.store import DeferredStore
from tests.deferred.rig import DeferredRig, deferring
from tests.gateway.rig import KEY
from tests.waiting import until

COMPLETED, FAILED, QUEUED = RequestState.COMPLETED, RequestState.FAILED, RequestState.QUEUED
ROOT = Path(__file__).resolve().parents[2]


async def test_queued_calls_results_and_keys_survive(rig: DeferredRig) -> None:
    body = os.urandom(600_000)
    waiting = await rig.submit("/v2/sketch/body", "idempotency-key: k", body=body)
    await rig.reopen()
    (worker,) = await rig.workers("a")
    rig.sweep()
    await rig.until_state(waiting, COMPLETED)
    assert worker.seen[0].body == body
    await rig.reopen()
    assert (await rig.result(waiting)).body == body
    again = await rig.call("POST", "/v2/sketch/body", "idempotency-key: k", body=body)
    assert again.json()["request_id"] == waiting
    assert rig.desk.stock.bytes["sketch"] == len(body)


async def test_one_that_was_running_is_run_again(rig: DeferredRig) -> None:
    (worker,) = await rig.workers("a")
    request_id = await rig.submit("/v2/sketch/slow")
    await rig.until_seen(1)
    await rig.reopen()
    worker.gate.set()
    rig.sweep()
    told = await rig.until_state(request_id, COMPLETED)
    assert (told["attempts"], len(worker.seen)) == (2, 2)


async def test_one_that_was_to_run_at_most_once_is_not(rig: DeferredRig) -> None:
    (worker,) = await rig.workers("a")
    request_id = await rig.submit("/v2/sketch/slow", "x-max-attempts: 1")
    await rig.until_seen(1)
    await rig.reopen()
    told = await rig.told(request_id)
    assert (told["state"], told["error"]["code"]) == ("FAILED", "interrupted")  # type: ignore[index]
    assert len(worker.seen) == 1


async def test_attempts_count_across_restarts(rig: DeferredRig) -> None:
    (worker,) = await rig.workers("a")
    request_id = await rig.submit("/v2/sketch/slow", "x-max-attempts: 2")
    for attempt in (1, 2):
        await rig.until_seen(attempt)
        await rig.reopen()
        rig.sweep()
    assert (await rig.told(request_id))["state"] == "FAILED"
    assert len(worker.seen) == 2


async def test_a_drain_waits_for_those_that_run_and_keeps_the_rest(rig: DeferredRig) -> None:
    (worker,) = await rig.workers("a")
    running = await rig.submit("/v2/sketch/slow")
    await rig.until_seen(1)
    waiting = await rig.submit("/v2/sketch/slow")
    draining = asyncio.ensure_future(rig.desk.drain(10))
    await until(lambda: rig.lane.queued == 0, what="the waiting one to leave the lane")
    worker.gate.set()
    await draining
    assert (await rig.told(running))["state"] == "COMPLETED"
    assert (await rig.told(waiting))["state"] == "QUEUED"
    assert len(worker.seen) == 1


async def test_a_half_upload_is_forgotten(rig: DeferredRig) -> None:
    caller = await rig.caller()
    caller.send(f"POST /v2/sketch HTTP/1.1\r\nHost: localhost\r\nx-api-key: {KEY}\r\nContent-Length: 900000\r\n\r\n")
    caller.send(b"x" * 600_000)
    await until(lambda: rig.desk.stock.requests["sketch"] == 1, what="the upload to begin")
    caller.close()
    await until(lambda: rig.desk.stock.requests["sketch"] == 0, what="the upload to be forgotten")
    assert rig.desk.stock.bytes["sketch"] == 0
    await rig.shut()
    assert parts_in(rig.directory) == 0
    await rig.open()


async def test_results_go_after_an_hour(rig: DeferredRig) -> None:
    await rig.workers("a")
    request_id = await rig.submit("/v2/sketch/body", body=b"x" * 700_000)
    await rig.until_state(request_id, COMPLETED)
    rig.clock.skip(3_599)
    await rig.desk._purge()
    assert (await rig.result(request_id)).status == 200
    rig.clock.skip(2)
    await rig.desk._purge()
    assert (await rig.result(request_id)).code == "no_such_request"
    assert rig.desk.stock.bytes["sketch"] == 0
    await rig.shut()
    assert parts_in(rig.directory) == 0
    assert b"x" * 1_000 not in (rig.directory / "deferred.db").read_bytes(), "overwritten, not only unlinked"
    await rig.open()


async def test_the_queue_is_bounded_by_number_and_by_bytes(tmp_path: Path) -> None:
    async with deferring(tmp_path, Bounds(requests=2, bytes=1_000, result_bytes=100)) as rig:
        await rig.submit(body=b"x" * 400)
        big = await rig.call("POST", "/v2/sketch", body=b"x" * 601)
        assert (big.status, big.code, big.get("retry-after")) == (503, "deferred_full", "10")
        first = await rig.submit(body=b"x" * 600)
        third = await rig.call("POST", "/v2/sketch")
        assert (third.status, third.code) == (503, "deferred_full")
        await rig.call("DELETE", f"/v2/requests/{first}")
        caller = await rig.caller()
        caller.send(f"POST /v2/sketch HTTP/1.1\r\nHost: localhost\r\nx-api-key: {KEY}\r\n")
        caller.send("Transfer-Encoding: chunked\r\n\r\n")
        caller.send(b"258\r\n" + b"x" * 600 + b"\r\n1\r\nx\r\n")
        assert (await caller.reply()).code == "deferred_full", "bytes nobody announced count too"


async def test_a_result_beyond_its_bound_fails_the_call(tmp_path: Path) -> None:
    async with deferring(tmp_path, Bounds(result_bytes=100_000)) as rig:
        (worker,) = await rig.workers("a")
        request_id = await rig.submit("/v2/sketch/big?100")
        told = await rig.until_state(request_id, FAILED)
        assert (told["attempts"], told["error"]["code"]) == (1, "result_too_large")  # type: ignore[index]
        await until(lambda: worker.open == 0, what="the worker's connection to be dropped")


async def test_a_damaged_file_is_put_aside_and_calls_go_on(rig: DeferredRig, caplog: pytest.LogCaptureFixture) -> None:
    await rig.submit()
    await rig.shut()
    (rig.directory / "deferred.db").write_bytes(b"no database" * 1_000)
    await rig.open()
    await rig.workers("a")
    await rig.until_state(await rig.submit(), COMPLETED)
    assert "make a new one for each account that has any (gpudeck requests secret)" in caplog.text
    (aside,) = rig.directory.glob("deferred.db.damaged-*")
    assert aside.read_bytes().startswith(b"no database")


async def test_while_the_file_cannot_be_opened_calls_are_refused_and_live_ones_served(rig: DeferredRig) -> None:
    await rig.workers("a")
    await rig.shut()
    for file in rig.directory.glob("deferred.db*"):
        file.unlink()
    (rig.directory / "deferred.db").mkdir()
    await rig.open()
    refused = await rig.call("POST", "/v2/sketch")
    assert (refused.status, refused.code) == (503, "deferred_unavailable")
    assert (await rig.call("GET", "/v2/requests/" + "0" * 32)).code == "deferred_unavailable"
    assert (await rig.call("POST", "/v1/sketch")).status == 200
    (rig.directory / "deferred.db").rmdir()
    await rig.desk._load()
    await rig.until_state(await rig.submit(), COMPLETED)


async def test_cancelling_between_grant_and_dispatch_gives_the_worker_back(rig: DeferredRig) -> None:
    (worker,) = await rig.workers("a")
    request_id = await rig.submit("/v2/sketch/slow")
    await rig.until_seen(1)
    waiting = await rig.submit()
    await rig.call("DELETE", f"/v2/requests/{request_id}")  # frees the worker: the waiting one is granted it
    call = rig.desk.runner._calls["sketch"].get(waiting)
    reply = await rig.call("DELETE", f"/v2/requests/{waiting}")
    assert reply.status in (200, 409)
    await until(rig.idle, what="claims to be given back")
    assert call is None or call.stage is Stage.OVER
    worker.gate.set()


ACCEPTING = """
import asyncio, sys
from pathlib import Path
from tests.deferred.rig import deferring

async def submit(rig, n):
    while True:
        print(await rig.submit("/v2/sketch/body", body=b"%d " % n * 20_000), flush=True)

async def main():
    async with deferring(Path(sys.argv[1])) as rig:
        await asyncio.gather(*(submit(rig, n) for n in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("count", [1, 40, 160])
async def test_sigkill_loses_nothing_that_was_acknowledged(tmp_path: Path, count: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", ACCEPTING, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert child.stdout is not None
    acknowledged = [(await asyncio.to_thread(child.stdout.readline)).decode().strip() for _ in range(count)]
    child.send_signal(signal.SIGKILL)
    acknowledged += [line.decode().strip() for line in child.stdout.readlines() if line.endswith(b"\n")]
    child.wait()
    child.stdout.close()
    store = DeferredStore(tmp_path / "deferred.db", system_now())
    loaded = await asyncio.wrap_future(store.load())
    assert set(acknowledged) <= {record.id for record in loaded.queued}
    for record in loaded.queued:
        size = 0
        n = 0
        while (part := await asyncio.wrap_future(store.body(record.id, n))) is not None:
            size, n = size + len(part), n + 1
        assert size == record.body_bytes, "a body is whole or not accepted"
    await asyncio.to_thread(store.close)


def parts_in(directory: Path) -> int:
    with closing(sqlite3.connect(directory / "deferred.db")) as db:
        return int(db.execute("SELECT COUNT(*) FROM part").fetchone()[0])
