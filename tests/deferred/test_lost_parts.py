"""A part of a body or of a result that the disk did not take: nothing is promised, and nothing counts as complete, that
is not there. SQLite itself says that the disk is full."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator

import pytest

from orchestrator.contract.deferred import RequestState
from orchestrator.deferred.call import Stage
from orchestrator.deferred.rules import PART_BYTES
from orchestrator.deferred.store import BATCH_MAX, StoreError
from tests.deferred.rig import DeferredRig
from tests.gateway.rig import KEY
from tests.waiting import until

ROOM_PAGES = 30
"""Enough for a row, too little for a part. A connection that has failed is opened anew, and has all the room again."""


class Cramped:
    """The store's thread stands still until `let_go`, and then has room for `room_pages`."""

    def __init__(self, rig: DeferredRig) -> None:
        self._store = rig.store
        self._standing = threading.Event()
        self._gate = threading.Event()

    async def stop(self, room_pages: int = ROOM_PAGES) -> None:
        def stand(db: sqlite3.Connection) -> None:
            (pages,) = db.execute("PRAGMA page_count").fetchone()
            db.execute(f"PRAGMA max_page_count = {pages + room_pages}")
            self._standing.set()
            self._gate.wait(120)

        self._store._submit(stand)
        # Not when the queue is empty: who has taken one job looks for more of them before it begins.
        await until(self._standing.is_set, what="the thread to stand still")

    @property
    def waiting(self) -> int:
        return self._store._jobs.qsize()

    def fill_up(self) -> None:
        """The next job is in another transaction than the last one."""
        for _ in range(BATCH_MAX - 1):
            self._store._submit(lambda db: None)

    async def let_go(self) -> None:
        """Go on, and wait for what has been asked for until now: some of it fails."""
        self._gate.set()
        with contextlib.suppress(StoreError):
            await asyncio.wrap_future(self._store._submit(lambda db: None))


@pytest.fixture
async def cramped(rig: DeferredRig) -> AsyncIterator[Cramped]:
    made = Cramped(rig)
    yield made
    await made.let_go()


async def parts_of(rig: DeferredRig) -> int:
    rows = await asyncio.wrap_future(rig.store._submit(lambda db: db.execute("SELECT COUNT(*) FROM part").fetchone()))
    return int(rows[0])


async def test_a_call_is_not_accepted_without_all_of_its_body(rig: DeferredRig, cramped: Cramped) -> None:
    """The failure of one part is on its way while the rest comes in and is written."""
    (worker,) = await rig.workers("a")
    await cramped.stop()
    caller = await rig.caller()
    body = b"x" * (PART_BYTES + 30_000)
    lines = f"Host: localhost\r\nx-api-key: {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    caller.send(f"POST /v2/sketch/body HTTP/1.1\r\n{lines}")
    caller.send(body[:PART_BYTES])
    await until(lambda: cramped.waiting >= 1, what="the first part")
    cramped.fill_up()
    caller.send(body[PART_BYTES:])
    await until(lambda: cramped.waiting > BATCH_MAX, what="the rest")
    await cramped.let_go()
    reply = await caller.reply()
    assert (reply.status, reply.code) == (503, "deferred_unavailable")
    assert await parts_of(rig) == 0, "what was written of it is gone"
    assert rig.desk.stock.bytes["sketch"] == 0
    request_id = await rig.submit("/v2/sketch/body", body=body)
    await rig.until_state(request_id, RequestState.COMPLETED)
    assert [seen.body for seen in worker.seen] == [body]


async def test_a_result_that_is_not_all_there_is_another_attempt(rig: DeferredRig, cramped: Cramped) -> None:
    (worker,) = await rig.workers("a")
    request_id = await rig.submit("/v2/sketch/slow-big?5")
    await rig.until_seen(1)
    await cramped.stop()
    worker.gate.set()
    await until(lambda: all(call.stage is Stage.OVER for call in rig.desk.runner._each()), what="the worker's reply")
    await cramped.let_go()
    told = await rig.until_state(request_id, RequestState.COMPLETED)
    assert told["attempts"] == 2
    assert len((await rig.result(request_id)).body) == 5 * 65_536


async def test_a_call_that_is_cancelled_while_its_result_is_written_is_cancelled(
    rig: DeferredRig, cramped: Cramped
) -> None:
    (worker,) = await rig.workers("a")
    request_id = await rig.submit("/v2/sketch/slow-big?5")
    await rig.until_seen(1)
    await cramped.stop(room_pages=10_000)
    cancelled = asyncio.ensure_future(rig.desk.end_by_owner(request_id))
    await until(lambda: cramped.waiting >= 1, what="the cancellation")
    worker.gate.set()
    await until(lambda: all(call.stage is Stage.OVER for call in rig.desk.runner._each()), what="the worker's reply")
    await cramped.let_go()
    assert await cancelled is not None
    assert (await rig.told(request_id))["state"] == RequestState.CANCELLED
    assert await parts_of(rig) == 0, "what came after it is not kept: the endpoint's bytes do not count it"
    await until(lambda: not list(rig.desk.runner._each()), what="the runner to forget it")
