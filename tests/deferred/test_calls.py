"""Asynchronous calls over HTTP: handed in, run in the endpoint's lane, told about, fetched."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os

import pytest

from orchestrator.contract.deferred import RequestState
from orchestrator.core.lane import Closed, Slot
from orchestrator.core.routing import KeyGrant
from tests.deferred.rig import DeferredRig
from tests.gateway.rig import KEY, OTHER_KEY
from tests.ports import free_port
from tests.waiting import until

COMPLETED, FAILED, QUEUED = RequestState.COMPLETED, RequestState.FAILED, RequestState.QUEUED
PROCESSING, CANCELLED = RequestState.PROCESSING, RequestState.CANCELLED
DISABLED = Closed(503, "endpoint_disabled", "endpoint sketch is disabled")


async def test_a_call_is_accepted_run_told_and_fetched(rig: DeferredRig) -> None:
    await rig.workers("a")
    reply = await rig.call("POST", "/v2/sketch/echo?seed=7", "content-type: text/plain", "x-mine: 1", body=b"hello")
    assert reply.status == 202
    told = reply.json()
    request_id = told["request_id"]
    assert told["state"] == told["status"] == "QUEUED"
    assert told["poll_url"] == f"http://localhost/v2/requests/{request_id}"
    done = await rig.until_state(str(request_id), COMPLETED)
    assert (done["attempts"], done["worker_status"], done["worker_id"]) == (1, 200, "id-a")
    assert done["result_url"] == f"{told['poll_url']}/result"
    assert isinstance(done["total_ms"], int)
    result = await rig.result(str(request_id))
    assert (result.status, result.get("x-request-state"), result.get("x-worker-id")) == (200, "COMPLETED", "id-a")
    seen = result.json()
    assert (seen["method"], seen["target"], seen["body"]) == ("POST", "/echo?seed=7", "hello")
    fields = dict(seen["fields"])  # type: ignore[call-overload]
    assert fields["content-type"] == "text/plain"
    assert (fields["x-mine"], fields["x-request-id"]) == ("1", request_id)
    assert "x-api-key" not in fields
    assert rig.route.meter.served_total == 1


async def test_the_predict_path_is_the_default_and_a_body_is_not_needed(rig: DeferredRig) -> None:
    (worker,) = await rig.workers("a")
    await rig.until_state(await rig.submit("/v2/sketch?x=%20y"), COMPLETED)
    assert (worker.seen[0].target, worker.seen[0].body) == ("/predict?x=%20y", b"")


@pytest.mark.parametrize("size", [1, 262_144, 262_145, 3_000_000])
async def test_bodies_and_results_of_any_size_come_through_unchanged(rig: DeferredRig, size: int) -> None:
    await rig.workers("a")
    body = os.urandom(size)
    request_id = await rig.submit("/v2/sketch/body", body=body)
    told = await rig.until_state(request_id, COMPLETED)
    assert told["result_bytes"] == size
    result = await rig.result(request_id)
    assert hashlib.sha256(result.body).digest() == hashlib.sha256(body).digest()


async def test_a_chunked_body_is_taken_too(rig: DeferredRig) -> None:
    (worker,) = await rig.workers("a")
    caller = await rig.caller()
    caller.send(f"POST /v2/sketch/body HTTP/1.1\r\nHost: localhost\r\nx-api-key: {KEY}\r\n")
    caller.send("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
    reply = await caller.reply()
    assert (reply.interim, reply.status) == ([100], 202)
    await rig.until_state(str(reply.json()["request_id"]), COMPLETED)
    assert worker.seen[0].body == b"abcdefg"


@pytest.mark.parametrize("target", ["sse", "eof", "no-content"])
async def test_replies_of_every_framing_are_kept_whole(rig: DeferredRig, target: str) -> None:
    (worker,) = await rig.workers("a")
    for _ in range(3):
        worker.step.release()
    request_id = await rig.submit(f"/v2/sketch/{target}")
    await rig.until_state(request_id, COMPLETED)
    result = await rig.result(request_id)
    expected = {"sse": b"data: 0\n\ndata: 1\n\ndata: 2\n\n", "eof": b"until the end", "no-content": b""}
    assert result.body == expected[target]
    assert result.get("transfer-encoding") is None


async def test_head_and_keep_alive_on_results(rig: DeferredRig) -> None:
    await rig.workers("a")
    request_id = await rig.submit()
    await rig.until_state(request_id, COMPLETED)
    caller = await rig.caller()
    for method in ("HEAD", "GET", "HEAD"):
        caller.request(method, f"/v2/requests/{request_id}/result")
        reply = await caller.reply(head_only=method == "HEAD")
        assert (reply.status, reply.get("content-length")) == (200, "200")
    assert reply.body == b""


async def test_an_error_of_the_worker_is_failed_and_its_reply_can_be_fetched(rig: DeferredRig) -> None:
    await rig.workers("a")
    request_id = await rig.submit("/v2/sketch/failing")
    told = await rig.until_state(request_id, FAILED)
    assert (told["worker_status"], told["attempts"]) == (500, 1), "a worker's answer is an answer: not tried again"
    assert told["error"] == {"code": "worker_error", "detail": "The worker answered 500."}
    result = await rig.result(request_id)
    assert (result.status, result.get("x-request-state")) == (500, "FAILED")


async def test_calls_run_in_order_and_tell_their_place(rig: DeferredRig) -> None:
    (worker,) = await rig.workers("a")
    ids = [await rig.submit(f"/v2/sketch/slow?{n}") for n in range(4)]
    await rig.until_seen(1)
    places = [(await rig.told(request_id)).get("position") for request_id in ids]
    assert places == [None, 1, 2, 3]
    assert rig.lane.queued == 3, "what waits is demand that the scaling policy sees"
    worker.gate.set()
    for request_id in ids:
        await rig.until_state(request_id, COMPLETED)
    assert [seen.target for seen in worker.seen] == [f"/slow?{n}" for n in range(4)]


async def test_live_requests_go_first_but_not_for_ever(rig: DeferredRig) -> None:
    (worker,) = await rig.workers("a")
    ids = [await rig.submit(f"/v2/sketch/slow?deferred{n}") for n in range(3)]
    await rig.until_seen(1)
    live = []
    for n in range(2):
        live.append(asyncio.ensure_future(rig.call("GET", f"/v1/sketch/x?live{n}")))
        await until(lambda n=n: rig.lane.queued == 3 + n, what="live requests to wait")  # type: ignore[misc]
    worker.gate.set()
    assert {reply.status for reply in await asyncio.gather(*live)} == {200}
    for request_id in ids:
        await rig.until_state(request_id, COMPLETED)
    order = [seen.target.partition("?")[2] for seen in worker.seen]
    assert order == ["deferred0", "live0", "live1", "deferred1", "deferred2"]


async def test_one_that_has_waited_long_enough_takes_its_turn(rig: DeferredRig) -> None:
    (worker,) = await rig.workers("a")
    ids = [await rig.submit(f"/v2/sketch/slow?deferred{n}") for n in range(2)]
    await rig.until_seen(1)
    live = asyncio.ensure_future(rig.call("GET", "/v1/sketch/x?live"))
    await until(lambda: rig.lane.queued == 2, what="the live request to wait")
    rig.clock.skip(31)
    worker.gate.set()
    assert (await live).status == 200
    await rig.until_state(ids[1], COMPLETED)
    assert [seen.target.partition("?")[2] for seen in worker.seen] == ["deferred0", "deferred1", "live"]


async def test_a_cold_start_is_waited_through(rig: DeferredRig) -> None:
    request_id = await rig.submit("/v2/sketch/echo", body=b"x")
    assert rig.lane.queued == 1
    await rig.workers("late")
    await rig.until_state(request_id, COMPLETED)


async def test_a_lane_holds_no_more_of_them_than_its_window(rig: DeferredRig) -> None:
    rig.lane.queue_limit = 6
    ids = [await rig.submit() for _ in range(9)]
    assert rig.lane.queued == 3, "half of the queue stays for live requests"
    await rig.workers("a")
    for request_id in ids:
        await rig.until_state(request_id, COMPLETED)


async def test_a_closed_endpoint_refuses_new_calls_and_keeps_those_it_has(rig: DeferredRig) -> None:
    request_id = await rig.submit()
    rig.lane.close(DISABLED, evict=True)
    refused = await rig.call("POST", "/v2/sketch")
    assert (refused.status, refused.code) == (503, "endpoint_disabled")
    told = await rig.told(request_id)
    assert (told["state"], told["attempts"], told["waiting_for"]) == ("QUEUED", 0, DISABLED.message)
    await rig.workers("a")
    rig.lane.open()
    rig.sweep(2)
    await rig.until_state(request_id, COMPLETED)


async def test_a_deleted_endpoint_fails_what_it_never_ran(rig: DeferredRig) -> None:
    waiting = await rig.submit()
    rig.lane.queue_limit = 1
    beyond = await rig.submit()
    rig.table.routes.pop("sketch").lane.close(Closed(404, "endpoint_deleted", "gone"), evict=True)
    rig.sweep()
    for request_id in (waiting, beyond):
        told = await rig.until_state(request_id, FAILED)
        assert told["error"]["code"] == "endpoint_deleted"  # type: ignore[index]
        reply = await rig.result(request_id)
        assert (reply.status, reply.code) == (410, "no_result")
    rig.table.routes["sketch"] = rig.route


async def test_nothing_waits_longer_than_a_day(rig: DeferredRig) -> None:
    rig.lane.queue_limit = 2
    ids = [await rig.submit() for _ in range(2)]
    rig.sweep(24 * 3_600 + 1)
    for request_id in ids:
        assert (await rig.until_state(request_id, FAILED))["error"]["code"] == "expired"  # type: ignore[index]
    assert rig.lane.queued == 0


async def test_a_lost_worker_is_another_attempt(rig: DeferredRig) -> None:
    await rig.workers("a", "b")
    request_id = await rig.submit("/v2/sketch/die")
    for attempt in (1, 2):
        await rig.until_seen(attempt)
        await until(lambda: rig.desk.runner.busy == 0, what="the attempt to be settled")
        for slot in rig.lane.slots.values():
            rig.lane.trust(slot.worker_id)
        told = await rig.told(request_id)
        assert (told["state"], told["attempts"]) == ("QUEUED", attempt)
        rig.sweep(5)
    told = await rig.until_state(request_id, FAILED)
    assert (told["attempts"], told["error"]["code"]) == (3, "worker_lost")  # type: ignore[index]


async def test_x_max_attempts_1_is_at_most_once(rig: DeferredRig) -> None:
    (worker,) = await rig.workers("a")
    request_id = await rig.submit("/v2/sketch/die", "x-max-attempts: 1")
    told = await rig.until_state(request_id, FAILED)
    assert (told["attempts"], told["max_attempts"], len(worker.seen)) == (1, 1, 1)
    assert worker.seen[0].get("x-max-attempts") is None


async def test_a_call_has_a_connection_of_its_own(rig: DeferredRig) -> None:
    """A kept one may end as it is used: that looks like the death of a worker, and the only attempt would be gone."""
    (worker,) = await rig.workers("a")
    assert (await rig.call("GET", "/v1/sketch/ok")).status == 200
    assert (rig.gateway.worker_connections, worker.opened) == (1, 1), "it is kept"
    told = await rig.until_state(await rig.submit("/v2/sketch/ok", "x-max-attempts: 1"), COMPLETED)
    assert (told["attempts"], worker.opened) == (1, 2)
    assert (await rig.call("GET", "/v1/sketch/ok")).status == 200
    assert worker.opened == 2, "afterwards it is anybody's"


async def test_workers_that_cannot_be_reached_are_no_attempt(rig: DeferredRig) -> None:
    rig.lane.set_ring([Slot(f"id-{n}", f"w{n}", "127.0.0.1", free_port(), 1, rig.now()) for n in range(2)])
    request_id = await rig.submit("/v2/sketch/ok", "x-max-attempts: 1")
    await until(lambda: all(slot.suspect for slot in rig.lane.slots.values()), what="both workers to be found dead")
    await until(lambda: rig.desk.runner.busy == 0, what="the call to be put back")
    told = await rig.told(request_id)
    assert (told["state"], told["attempts"], told["waiting_for"]) == (QUEUED, 0, "The worker could not be reached.")
    await rig.workers("b")
    rig.sweep(5)
    assert (await rig.until_state(request_id, COMPLETED))["attempts"] == 1


async def test_half_a_reply_is_no_result(rig: DeferredRig) -> None:
    await rig.workers("a")
    request_id = await rig.submit("/v2/sketch/half", "x-max-attempts: 1")
    await rig.until_state(request_id, FAILED)
    assert (await rig.result(request_id)).code == "no_result"


async def test_a_time_out_is_not_tried_again(rig: DeferredRig) -> None:
    await rig.workers("a")
    request_id = await rig.submit("/v2/sketch/slow")
    await rig.until_seen(1)
    rig.sweep(601)
    told = await rig.until_state(request_id, FAILED)
    assert (told["attempts"], told["error"]["code"]) == (1, "execution_timeout")  # type: ignore[index]
    assert next(iter(rig.lane.slots.values())).recycle


@pytest.mark.parametrize("way", ["DELETE", "POST"])
async def test_cancelling_a_queued_and_a_running_call(rig: DeferredRig, way: str) -> None:
    (worker,) = await rig.workers("a")
    running = await rig.submit("/v2/sketch/slow")
    await rig.until_seen(1)
    waiting = await rig.submit("/v2/sketch/slow")
    for request_id in (waiting, running):
        target = f"/v2/requests/{request_id}" + ("" if way == "DELETE" else "/cancel")
        for _ in range(2):  # the second finds it cancelled, which is what it wanted
            reply = await rig.call(way, target)
            assert (reply.status, reply.json()["state"]) == (200, "CANCELLED")
    await until(lambda: worker.hung_up == 1, what="the worker to see its connection close")
    assert (rig.lane.queued, rig.lane.running, len(worker.seen)) == (0, 0, 1)
    assert (await rig.result(running)).code == "no_result"
    assert rig.desk.stock.requests["sketch"] == 0


async def test_what_is_over_cannot_be_cancelled(rig: DeferredRig) -> None:
    await rig.workers("a")
    request_id = await rig.submit()
    await rig.until_state(request_id, COMPLETED)
    reply = await rig.call("DELETE", f"/v2/requests/{request_id}")
    assert (reply.status, reply.code) == (409, "request_over")
    assert (await rig.result(request_id)).status == 200


async def test_the_same_key_and_body_are_the_same_call(rig: DeferredRig) -> None:
    (worker,) = await rig.workers("a")
    once = await rig.call("POST", "/v2/sketch/body", "idempotency-key: k1", body=b"one")
    again = await rig.call("POST", "/v2/sketch/body", "idempotency-key: k1", body=b"one")
    assert (once.status, again.status) == (202, 202)
    assert again.json()["request_id"] == once.json()["request_id"]
    assert (once.get("idempotent-replayed"), again.get("idempotent-replayed")) == (None, "true")
    for target, body in (("/v2/sketch/body", b"two"), ("/v2/sketch/body?x", b"one")):
        other = await rig.call("POST", target, "idempotency-key: k1", body=body)
        assert (other.status, other.code) == (409, "idempotency_conflict")
    await rig.until_state(str(once.json()["request_id"]), COMPLETED)
    assert len(worker.seen) == 1
    assert rig.desk.stock.requests["sketch"] == 0
    assert rig.desk.stock.bytes["sketch"] == 3, "the kept result"


async def test_only_the_accounts_own_keys_see_a_call(rig: DeferredRig) -> None:
    scoped = "gd_k3_scoped"
    rig.table.keys[hashlib.sha256(scoped.encode()).digest()] = KeyGrant("k3", "local", endpoints=frozenset({"other"}))
    request_id = await rig.submit()
    for key in (OTHER_KEY, scoped):
        for method, target in (("GET", ""), ("GET", "/result"), ("DELETE", ""), ("POST", "/cancel")):
            reply = await rig.call(method, f"/v2/requests/{request_id}{target}", key=key)
            assert (reply.status, reply.code) == (404, "no_such_request")
        assert (await rig.call("POST", "/v2/sketch", key=key)).status == 403
    assert (await rig.call("GET", f"/v2/requests/{request_id}", key=None)).status == 401
    assert (await rig.told(request_id))["state"] == "QUEUED"


@pytest.mark.parametrize(
    ("method", "target", "lines", "status", "code"),
    [
        ("GET", "/v2/sketch", (), 405, "method_refused"),
        ("PUT", "/v2/sketch/rest", (), 405, "method_refused"),
        ("POST", "/v2/nobody", (), 404, "no_such_endpoint"),
        ("GET", "/v2/requests", (), 404, "no_such_request"),
        ("GET", "/v2/requests/abc", (), 404, "no_such_request"),
        ("GET", f"/v2/requests/{'0' * 32}", (), 404, "no_such_request"),
        ("GET", f"/v2/requests/{'0' * 32}/result", (), 404, "no_such_request"),
        ("GET", f"/v2/requests/{'0' * 32}/cancel", (), 405, "method_refused"),
        ("DELETE", f"/v2/requests/{'0' * 32}", (), 404, "no_such_request"),
        ("POST", "/v2/sketch", ("x-max-attempts: 0",), 400, "bad_max_attempts"),
        ("POST", "/v2/sketch", ("x-max-attempts: 11",), 400, "bad_max_attempts"),
        ("POST", "/v2/sketch", ("x-max-attempts: 1", "x-max-attempts: 1"), 400, "duplicate_field"),
        ("POST", "/v2/sketch", ("idempotency-key: a b",), 400, "bad_idempotency_key"),
        ("POST", "/v2/sketch", ("x-webhook-url: ftp://example.org/",), 400, "webhook_refused"),
        ("POST", "/v2/sketch", ("x-webhook-url: https://10.0.0.1/",), 400, "webhook_refused"),
        ("POST", "/v2/sketch?webhook_url=https%3A%2F%2Fa.example", ("x-webhook-url: https://a.example",), 400,
         "duplicate_field"),
    ],
)  # fmt: skip
async def test_what_is_refused(
    rig: DeferredRig, method: str, target: str, lines: tuple[str, ...], status: int, code: str
) -> None:
    reply = await rig.call(method, target, *lines)
    assert (reply.status, reply.code) == (status, code)
    assert rig.desk.stock.requests.total() == 0


async def test_a_result_that_is_not_there_yet(rig: DeferredRig) -> None:
    request_id = await rig.submit()
    reply = await rig.result(request_id)
    assert (reply.status, reply.code, reply.get("retry-after")) == (409, "result_not_ready", "1")


async def test_openai_paths_stay_synchronous(rig: DeferredRig) -> None:
    await rig.workers("a")
    reply = await rig.call("POST", "/v1/chat/completions", body=json.dumps({"model": "sketch"}).encode())
    assert reply.status == 200


async def test_without_asynchronous_calls_v2_says_so(rig: DeferredRig) -> None:
    deferrals, rig.gateway.hub.deferrals = rig.gateway.hub.deferrals, None
    reply = await rig.call("POST", "/v2/sketch")
    assert (reply.status, reply.code) == (501, "async_unsupported")
    rig.gateway.hub.deferrals = deferrals
