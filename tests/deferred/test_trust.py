"""Asynchronous calls where somebody means harm or has changed his mind meanwhile: workers that lie, endpoints that are
not open any more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.contract.deferred import RequestState
from orchestrator.contract.endpoint import Visibility
from orchestrator.core.lane import Closed
from orchestrator.telemetry.accesslog import AccessLog
from tests.deferred.rig import DeferredRig
from tests.gateway.rig import OTHER_KEY
from tests.waiting import until

COMPLETED, FAILED = RequestState.COMPLETED, RequestState.FAILED
DISABLED = Closed(503, "endpoint_disabled", "endpoint sketch is disabled")


@pytest.mark.parametrize("closed", [False, True])
async def test_who_may_call_is_asked_again_when_its_turn_comes(rig: DeferredRig, closed: bool) -> None:
    """A call may wait for a day, and the endpoint be private by then, or somebody else's who has taken its name."""
    rig.route.visibility = Visibility.PUBLIC
    theirs = str((await rig.call("POST", "/v2/sketch", key=OTHER_KEY)).json()["request_id"])
    ours = await rig.submit()
    if closed:
        rig.lane.close(DISABLED, evict=True)
        rig.lane.open()
    rig.route.visibility = Visibility.PRIVATE
    (worker,) = await rig.workers("a")
    await rig.until_state(ours, RequestState.COMPLETED)
    told = (await rig.call("GET", f"/v2/requests/{theirs}", key=OTHER_KEY)).json()
    assert (told["state"], told["attempts"]) == (FAILED, 0)
    assert "endpoint_private" in str(told["error"])
    assert len(worker.seen) == 1


@pytest.mark.parametrize(
    ("target", "code"), [("/v2/sketch/sse", "execution_timeout"), ("/v2/sketch/lies-chunk", "worker_protocol")]
)
async def test_what_is_final_before_a_reply_is_final_in_the_middle_of_one(
    rig: DeferredRig, target: str, code: str
) -> None:
    """The worker has worked on it, and would again for as long, or lie again."""
    (worker,) = await rig.workers("a")
    request_id = await rig.submit(target)
    await rig.until_seen(1)
    if code == "execution_timeout":
        worker.step.release()
        await until(lambda: next(iter(rig.lane.slots.values())).first_byte_ns, what="the reply to begin")
        rig.sweep(601)
    told = await rig.until_state(request_id, FAILED)
    assert (told["attempts"], told["error"]["code"]) == (1, code)  # type: ignore[index]


async def test_a_worker_cannot_say_what_became_of_its_call(rig: DeferredRig) -> None:
    await rig.workers("a")
    forged = b"HTTP/1.1 200 OK\r\nX-Request-State: FAILED\r\nx-worker-id: b\r\ncontent-length: 2\r\n\r\nok"
    request_id = await rig.submit("/v2/sketch/lies-raw", body=forged)
    await rig.until_state(request_id, COMPLETED)
    result = await rig.result(request_id)
    assert (result.get("x-request-state"), result.get("x-worker-id"), result.body) == ("COMPLETED", "id-a", b"ok")


async def test_a_result_that_is_fetched_is_in_the_access_log(rig: DeferredRig, tmp_path: Path) -> None:
    await rig.workers("a")
    request_id = await rig.submit("/v2/sketch/body", body=b"abc")
    await rig.until_state(request_id, COMPLETED)
    path = tmp_path / "access.log"
    log = AccessLog(path, rig.now)
    rig.gateway.hub.observer = log
    assert (await rig.result(request_id)).body == b"abc"
    await rig.result(request_id, method="HEAD")
    log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    told = [(line["method"], line["status"], line["bytes_out"]) for line in lines]
    assert told == [("GET", 200, 3), ("HEAD", 200, 0)]
